"""Stores of the checkpoint tests: a directory, a bucket of a real S3 server, and that bucket behind a proxy that misbehaves."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "servers"))
sys.path.insert(0, str(Path(__file__).parent))

from fault_proxy import FaultProxy, run_fault_proxy
from gang import Gang
from s3_server import S3Server, run_s3_server

from llmtrain_trainer.checkpoint.retry import Backoff
from llmtrain_trainer.checkpoint.store import Store, open_store


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with run_s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, with the environment pointing at it."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture
def proxy(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A proxy before the server, with the environment pointing at the proxy."""
    with run_fault_proxy(s3.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield proxy


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.processes)])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh destination of either kind."""
    if request.param == "file":
        return f"file://{tmp_path}/store"
    return f"s3://{request.getfixturevalue('s3').new_bucket()}/jobs/one"


@pytest.fixture
def store(uri: str) -> Store:
    return open_store(uri, Backoff(first=0.01, longest=0.1, deadline=60.0))


@pytest.fixture
def gang(tmp_path: Path, store: Store) -> Gang:
    """One node with two ranks."""
    return Gang(tmp_path, store)
