"""Build the images of operator and trainer by buildah from the Dockerfiles of the tree, and put them where every test cluster finds them.

`ensure()` is called by `python -m tests.cluster images` and by the fixture `images`. Bases and dependencies are kept by their pins, so that
a change of our own code costs seconds.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.cluster import binaries
from tests.cluster.image import base, settings
from tests.cluster.image.box import boxed
from tests.cluster.image.storage import Built, buildah, built, home

REPOSITORY = Path(__file__).parents[3]
CODE = ("operator/llmtrain_operator", "trainer_image/llmtrain_trainer")
ENVIRONMENT = ("Dockerfile", "trainer_image/Dockerfile", "trainer_image/pyproject.toml", "scripts/image_environment.sh", ".dockerignore")
ENVIRONMENT += ("requirements/operator.txt", "requirements/trainer.txt", "requirements/uv.txt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Both images as pods of a cluster name them."""

    operator: str
    trainer: str


def ensure() -> Built:
    """Build and publish what the tree asks for, unless that is done. Raises CannotRunError or RuntimeError with the reason."""
    wanted = _digest(*ENVIRONMENT, *CODE)
    with _locked():  # another process may build it now
        if (found := built()) and found.sources == wanted:
            return found
        made = _build(wanted)
        boxed(sys.executable, "-m", "tests.cluster.image.publish", json.dumps(asdict(made)), network=False, cwd=REPOSITORY)
        (home() / "built.json").write_text(json.dumps(asdict(made)))
        return made


def takes_minutes() -> bool:
    """Whether `ensure()` would have to build more than our own code."""
    found = built()
    return found is None or found.environment != _digest(*ENVIRONMENT)


def push(registry: str, name: str) -> str:
    """Push a built image into a registry over plain HTTP, layers that are there already excepted; returns its reference there."""
    reference = f"{registry}/{name}"
    options = ["--quiet", "--tls-verify=false", "--format=oci", "--compression-format=zstd", "--compression-level=3"]
    boxed(*buildah("push", *options, f"localhost/{name}", f"docker://{reference}"))
    return reference


def _build(sources: str) -> Built:
    binaries.install_packages("buildah", "debootstrap")
    binaries.ensure("registry", "containerd")
    plain, compiler = base.ensure(base.PYTHON), base.ensure(base.COMPILER)
    return Built(
        operator=_image("llmtrain/operator", "Dockerfile", plain),
        dependencies=_image("llmtrain/trainer-dependencies", "trainer_image/Dockerfile", compiler, "--target=dependencies"),
        trainer=_image("llmtrain/trainer", "trainer_image/Dockerfile", compiler),
        sources=sources,
        environment=_digest(*ENVIRONMENT),
    )


def _image(name: str, dockerfile: str, base_image: str, *more: str) -> str:
    """Build one image; returns its name with a tag that follows from its content."""
    with tempfile.TemporaryDirectory(dir=home()) as made:
        scratch = Path(made)
        options = ["--isolation=chroot", "--network=host", "--pull-never", "--layers", "--quiet", f"--iidfile={scratch / 'id'}"]
        options += [f"--build-arg=BASE={base_image}", *settings.options(scratch), *more, f"--file={REPOSITORY / dockerfile}"]
        boxed(*buildah("build", *options, REPOSITORY), environment={"TMPDIR": made})
        image = (scratch / "id").read_text().strip().removeprefix("sha256:")
    tagged = f"{name}:{image[:12]}"
    boxed(*buildah("tag", image, f"localhost/{tagged}"))
    return tagged


def _digest(*paths: str) -> str:
    """Over names and contents of files, and of all files below directories."""
    summed = hashlib.sha256()
    for path in sorted(one for name in paths for one in _files(REPOSITORY / name)):
        content = path.read_bytes()
        summed.update(f"{path.relative_to(REPOSITORY)}\0{len(content)}\0".encode() + content)
    return summed.hexdigest()


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    yield from (one for one in path.rglob("*") if one.is_file() and "__pycache__" not in one.parts)


@contextmanager
def _locked() -> Iterator[None]:
    home().mkdir(parents=True, exist_ok=True)
    with (home() / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
