"""A real S3 server for tests: versitygw over a directory where Go is present, else moto's server.

`python tests/servers/s3_server.py` builds versitygw ahead of time (a minute or two, once per version).
LLMTRAIN_TEST_S3=versitygw or =moto asks for one of them; without it a build that fails falls back to moto and says so.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import botocore.session

MODULE = Path(__file__).parent / "versitygw"
PACKAGE = "github.com/versity/versitygw/cmd/versitygw"
ACCESS, SECRET, REGION = "llmtrain-test", "llmtrain-test-secret", "us-east-1"


@dataclass(frozen=True)
class S3Server:
    """A running server."""

    kind: str
    endpoint: str
    buckets: list[str] = field(default_factory=list)

    def environment(self, endpoint: str | None = None) -> dict[str, str]:
        """Variables that make any S3 client speak to this server (or to `endpoint`, a proxy before it) and to nothing else."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": endpoint or self.endpoint,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self) -> Any:
        """A plain client, to look at and to damage what is stored."""
        return botocore.session.get_session().create_client(
            "s3", endpoint_url=self.endpoint, region_name=REGION, aws_access_key_id=ACCESS, aws_secret_access_key=SECRET
        )

    def new_bucket(self) -> str:
        """Make a bucket nobody else uses."""
        name = f"bucket-{len(self.buckets):04d}"
        self.client().create_bucket(Bucket=name)
        self.buckets.append(name)
        return name


@contextmanager
def run_s3_server(directory: Path) -> Iterator[S3Server]:
    """Start a server that keeps its objects below `directory`; stop it at the end."""
    kind, port = _kind(), reserved_port()
    server = S3Server(kind, f"http://127.0.0.1:{port}")
    with (directory / "server.log").open("wb") as log:
        process = subprocess.Popen(_command(kind, port, directory), stdout=log, stderr=log, env=os.environ | server.environment())
        try:
            _wait(process, port, directory / "server.log")
            yield server
        finally:
            process.terminate()
            process.wait(timeout=30)


_HELD: list[socket.socket] = []
"""Bound, and not listening: the kernel gives these ports to nobody who asks for any, and a server that asks for one of them gets it."""


def reserved_port() -> int:
    """A port of the loopback interface that only a server which was told of it will have, for as long as this process lives."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    _HELD.append(held)
    return int(held.getsockname()[1])


def build_versitygw() -> Path:
    """The binary, built once per go.sum and kept in the user's cache. Raises CalledProcessError or FileNotFoundError."""
    version = hashlib.sha256((MODULE / "go.sum").read_bytes()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llmtrain" / "bin"
    binary = cache / f"versitygw-{version}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{binary.name}.lock").open("w") as lock:  # several test workers may want it at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not binary.exists():
            draft = binary.with_suffix(".part")
            subprocess.run(["go", "build", "-o", str(draft), PACKAGE], cwd=MODULE, check=True, capture_output=True, text=True)
            draft.replace(binary)
    return binary


def _kind() -> str:
    wish = os.environ.get("LLMTRAIN_TEST_S3")
    if wish == "moto" or (not wish and not shutil.which("go")):
        return "moto"
    try:
        build_versitygw()
    except (OSError, subprocess.CalledProcessError) as error:
        if wish:
            raise
        print(f"versitygw cannot be built here ({getattr(error, 'stderr', '') or error}); the tests use moto's server", file=sys.stderr)
        return "moto"
    return "versitygw"


def _command(kind: str, port: int, directory: Path) -> list[str]:
    if kind == "moto":
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    (directory / "objects").mkdir()
    (directory / "metadata").mkdir()
    options = ["--quiet", "--port", f"127.0.0.1:{port}", "--access", ACCESS, "--secret", SECRET, "--region", REGION, "--keep-alive"]
    # A sidecar directory: not every file system that tests run on has extended attributes.
    return [str(build_versitygw()), *options, "posix", "--sidecar", str(directory / "metadata"), str(directory / "objects")]


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the S3 server ended with {process.returncode}: {log.read_text()[-2000:]}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    process.kill()
    raise RuntimeError(f"the S3 server does not listen on port {port} after 60 s: {log.read_text()[-2000:]}")


if __name__ == "__main__":
    print(f"S3 server of the tests: {_kind()}")
