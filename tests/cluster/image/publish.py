"""Put built images into the registry's storage and unpack the trainer's dependencies. build.py runs this as a process of its own, boxed.

It starts a registry over the storage on a loopback interface that nothing else sees; buildah pushes and containerd pulls there. Both find
what is there already by its digest, so that only what is new is written.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.addresses import Site
from tests.cluster.binaries import program
from tests.cluster.components import registry_settings
from tests.cluster.image.build import push
from tests.cluster.image.storage import Built, buildah, home, registry, unpacked
from tests.cluster.image.unpacked import unpack

ADDRESS, PORT = "127.0.0.1", 5000


def main(made: Built) -> None:
    """Publish three images. Those of other dependencies go first, unless a cluster may be using them: each takes 15 GB."""
    fresh = not unpacked(made.dependencies).exists()
    if fresh and not _cluster_runs():
        subprocess.run(buildah("rmi", "--prune", "--force"), check=True, capture_output=True)
        for old in (registry(), home() / "unpacked"):
            shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=home()) as scratch, _registry(Path(scratch)):
        references = [push(f"{ADDRESS}:{PORT}", name) for name in (made.operator, made.dependencies, made.trainer)]
        if fresh:
            unpack(references[1], unpacked(made.dependencies), Path(scratch))


def _cluster_runs() -> bool:
    """Whether any cluster is up: its keeper holds its lock."""
    for path in Site(0).lock.parent.glob("*.lock"):
        with path.open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    return False


@contextmanager
def _registry(scratch: Path) -> Iterator[None]:
    settings = scratch / "registry.yaml"
    settings.write_text(json.dumps(registry_settings(f"{ADDRESS}:{PORT}")))
    with (
        (scratch / "registry.log").open("w") as log,
        subprocess.Popen([program("registry"), "serve", settings], stdout=log, stderr=log) as server,
    ):
        _until_listens(server, scratch / "registry.log")
        yield
        server.terminate()


def _until_listens(server: subprocess.Popen[bytes], log: Path) -> None:
    while server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex((ADDRESS, PORT)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"the registry did not start: {log.read_text()}")


if __name__ == "__main__":
    main(Built(**json.loads(sys.argv[1])))
