"""Stores of the checkpoint tests: a directory and a bucket of a real S3 server."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from gang import Gang

from llmtrain_trainer.checkpoint.store.destination import open_store
from llmtrain_trainer.checkpoint.store.retry import Backoff
from llmtrain_trainer.checkpoint.store.store import Store


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.processes)])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh destination of either kind."""
    if request.param == "file":
        return f"file://{tmp_path}/store"
    return f"s3://{request.getfixturevalue('s3').new_bucket()}/jobs/one"


@pytest.fixture
def store(uri: str) -> Store:
    return open_store(uri, Backoff(first=0.01, longest=0.1, deadline=60.0, doubt=0.05))


@pytest.fixture
def gang(tmp_path: Path, store: Store) -> Gang:
    """One node with two ranks."""
    return Gang(tmp_path, store)
