"""Put built images into the registry's storage and unpack the trainer's dependencies. build.py runs this as a process of its own, boxed.

It starts a registry over the storage on a loopback interface that nothing else sees; buildah pushes and containerd pulls there. Both find
what is there already by its digest, so that only what is new is written.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.binaries import program
from tests.cluster.components import registry_settings
from tests.cluster.image.build import push
from tests.cluster.image.storage import Built, home, unpacked
from tests.cluster.image.unpacked import unpack

ADDRESS, PORT = "127.0.0.1", 5000


def main(made: Built) -> None:
    """Publish three images, and unpack the dependencies where they are new."""
    with tempfile.TemporaryDirectory(dir=home()) as scratch, _registry(Path(scratch)):
        references = [push(f"{ADDRESS}:{PORT}", name) for name in (made.operator, made.dependencies, made.trainer)]
        if not unpacked(made.dependencies).exists():
            unpack(references[1], unpacked(made.dependencies), Path(scratch))


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
