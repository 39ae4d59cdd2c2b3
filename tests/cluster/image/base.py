"""Base images, assembled by debootstrap: the machine of the tests may know no registry that has one. Called by build.py."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.image.box import boxed
from tests.cluster.image.storage import buildah, home

SUITE = "bookworm"
PYTHON = ("python3", "python3-venv", "ca-certificates")
COMPILER = (*PYTHON, "g++", "libaio-dev", "libgomp1", "python3-dev")
# What nobody reads in a container, and what debootstrap takes over from the machine it runs on.
_LEFT_OUT = ("usr/share/doc", "usr/share/info", "usr/share/locale", "usr/share/man", "var/cache/apt", "var/lib/apt/lists")
_LEFT_OUT += ("etc/apt/sources.list", "etc/hostname", "etc/resolv.conf")


def ensure(packages: Sequence[str]) -> str:
    """The name, in buildah's storage, of a Debian with these packages; assembled if it is not there."""
    name = f"localhost/llmtrain-base:{hashlib.sha256(repr((SUITE, packages, _LEFT_OUT)).encode()).hexdigest()[:12]}"
    if subprocess.run(buildah("inspect", "--type", "image", name), capture_output=True, check=False).returncode:
        _assemble(name, packages)
    return name


def _assemble(name: str, packages: Sequence[str]) -> None:
    debs = home() / "debs"
    debs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home()) as made:
        scratch = Path(made)
        root = scratch / "root"
        boxed("debootstrap", "--variant=minbase", f"--include={','.join(packages)}", f"--cache-dir={debs}", SUITE, root, *_mirror())
        for part in _LEFT_OUT:
            path = root / part
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        (scratch / "Dockerfile").write_text("FROM scratch\nADD root.tar /\n")
        subprocess.run(["tar", "-C", root, "-cf", scratch / "root.tar", "."], check=True)
        shutil.rmtree(root)
        boxed(*buildah("build", "--isolation", "chroot", "--quiet", "--tag", name, scratch), environment={"TMPDIR": made})


def _mirror() -> list[str]:
    """The mirror that this machine's apt has for the suite; without one debootstrap takes its own."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"]
    known = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    return [place for place, _, suite in (line.partition(" ") for line in known) if suite == SUITE][:1]
