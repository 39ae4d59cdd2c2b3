"""Build the images of operator and trainer by buildah from the Dockerfiles of the tree, and put them where every test cluster finds them.

`ensure()` is called by `python -m tests.cluster images` and by the fixture `images`. Bases and dependencies are kept by their pins, so that
a change of our own code costs seconds.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.cluster import binaries
from tests.cluster.addresses import Site
from tests.cluster.image import base, settings
from tests.cluster.image.box import boxed
from tests.cluster.image.storage import Built, buildah, built, home, registry

REPOSITORY = Path(__file__).parents[3]
CODE = ("operator/llmtrain_operator", "trainer_image/llmtrain_trainer")
DEPENDENCIES = ("trainer_image/pyproject.toml", "requirements/trainer.txt", "requirements/uv.txt", "scripts/image_environment.sh")
DEPENDENCIES += ("tests/cluster/image/base.py",)
RECIPES = ("Dockerfile", "trainer_image/Dockerfile", "requirements/operator.txt", ".dockerignore")


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Both images as pods of a cluster name them."""

    operator: str
    trainer: str


def ensure() -> Built:
    """Build and publish what the tree asks for, unless that is done. Raises CannotRunError or RuntimeError with the reason."""
    wanted = digest(*DEPENDENCIES, *RECIPES, *CODE)
    with _locked():  # another process may build it now
        if (found := built()) and found.sources == wanted:
            return found
        for rest in home().glob("tmp*"):  # of a build that was killed
            shutil.rmtree(rest)
        if takes_minutes() and not a_cluster_runs():
            forget()
        made = _build(wanted)
        _tidy(made)
        boxed(sys.executable, "-m", "tests.cluster.image.publish", json.dumps(asdict(made)), network=False, cwd=REPOSITORY)
        (home() / "built.json").write_text(json.dumps(asdict(made)))
        return made


def takes_minutes() -> bool:
    """Whether `ensure()` would have to install the trainer's dependencies."""
    found = built()
    return found is None or found.environment != environment()


def environment() -> str:
    """Digest of all that decides what the trainer's dependencies are, the stage of its Dockerfile included."""
    stage = (REPOSITORY / "trainer_image" / "Dockerfile").read_text().partition("\nFROM dependencies")[0]
    return hashlib.sha256((digest(*DEPENDENCIES) + stage).encode()).hexdigest()


def forget() -> None:
    """Remove all but the bases. Old dependencies beside new ones while these are installed would take 40 GB."""
    old = [one["id"] for one in _images() if not any("llmtrain-base" in name for name in one["names"] or ())]
    if old:
        subprocess.run(buildah("rmi", "--force", *old), check=True, stdout=subprocess.DEVNULL)
    subprocess.run(buildah("rmi", "--prune", "--force"), check=True, stdout=subprocess.DEVNULL)
    for path in (registry(), home() / "unpacked"):
        shutil.rmtree(path, ignore_errors=True)
    (home() / "built.json").unlink(missing_ok=True)


def _tidy(made: Built) -> None:
    """Remove what a build leaves behind: working containers, one of 5 GB among them, and the images of earlier code."""
    subprocess.run(buildah("rm", "--all"), check=True, stdout=subprocess.DEVNULL)
    kept = ("localhost/llmtrain-base:", *(f"localhost/{name}" for name in (made.operator, made.dependencies, made.trainer)))
    old = [name for one in _images() for name in one["names"] or () if not name.startswith(kept)]
    if old:
        subprocess.run(buildah("rmi", *old), check=True, stdout=subprocess.DEVNULL)


def _images() -> list[dict[str, Any]]:
    """What is in buildah's storage under a name."""
    listed = subprocess.run(buildah("images", "--json"), stdout=subprocess.PIPE, check=True).stdout
    return list(json.loads(listed) or [])


def a_cluster_runs() -> bool:
    """Whether a cluster is up, which may use what was built last: its keeper holds its lock."""
    for path in Site(0).lock.parent.glob("*.lock"):
        with path.open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    return False


def push(to: str, name: str) -> str:
    """Push a built image into a registry over plain HTTP, layers that are there already excepted; returns its reference there."""
    reference = f"{to}/{name}"
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
        environment=environment(),
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


def digest(*paths: str) -> str:
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
