"""The trainer's dependencies as containerd keeps them, unpacked once for all nodes of all clusters.

They take 5 GB and a minute or more, for each node at each start of a cluster.

containerd has no read-only layers that two of it could share, but its layers are plain directories that it only reads once they are
committed. So each node starts with a copy of containerd's small databases, and with links where the directories would be. When a pod then
names the trainer's image, containerd finds these layers by their digest, and pulls only those that hold our code.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.binaries import program
from tests.cluster.image.storage import built, unpacked

_LAYERS = Path("io.containerd.snapshotter.v1.overlayfs") / "snapshots"
_PINNED = "io.cri-containerd.pinned=pinned"


def unpack(reference: str, into: Path, scratch: Path) -> None:
    """Pull an image and keep what containerd made of it at `into`."""
    draft = into.with_suffix(".part")
    shutil.rmtree(draft, ignore_errors=True)
    with _containerd(draft, scratch) as socket:
        ctr = [program("ctr"), "--address", socket, "--namespace", "k8s.io"]
        for command in (
            ["images", "pull", "--local", "--plain-http", reference],
            ["images", "label", reference, _PINNED],  # or a kubelet removes what no pod uses
            ["content", "prune", "references"],  # the packed layers
        ):
            subprocess.run([*ctr, *command], check=True, stdout=subprocess.DEVNULL)
    draft.rename(into)


def link(root: Path) -> None:
    """Give a containerd that has not started yet the layers of the last build as part of its `root`; nothing where there are none."""
    found = built()
    if found is None or not unpacked(found.dependencies).exists():
        return
    source = unpacked(found.dependencies)
    shutil.copytree(source, root, ignore=lambda place, names: names if Path(place) == source / _LAYERS else [])
    for layer in (source / _LAYERS).iterdir():
        (root / _LAYERS / layer.name).symlink_to(layer)


@contextmanager
def _containerd(root: Path, scratch: Path) -> Iterator[Path]:
    socket, settings = scratch / "containerd.sock", scratch / "containerd.toml"
    settings.write_text(f"""\
version = 3
root = "{root}"
state = "{scratch / "state"}"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt", "io.containerd.grpc.v1.cri"]
[grpc]
  address = "{socket}"
[ttrpc]
  address = "{socket}.ttrpc"
""")
    with (
        (scratch / "containerd.log").open("w") as log,
        subprocess.Popen([program("containerd"), "--config", settings], stdout=log, stderr=log) as daemon,
    ):
        while not socket.exists():
            if daemon.poll() is not None:
                raise RuntimeError((scratch / "containerd.log").read_text()[-2000:])
            time.sleep(0.05)
        yield socket
        daemon.terminate()
