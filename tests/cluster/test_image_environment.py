"""The Python environment of an image: each download is checked against the pins; with another build of torch, all but torch's own."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.cluster


def wheel(index: Path, name: str, version: str, needs: tuple[str, ...] = (), code: str = "") -> str:
    """Put a package, without code but for a build backend, into a directory that is an index; returns its sha256."""
    place = index / name
    place.mkdir(parents=True, exist_ok=True)
    path, info = place / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + "".join(f"Requires-Dist: {need}\n" for need in needs)
    files = {
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files |= {f"{name}/__init__.py": "", f"{name}/build_meta.py": code} if code else {}
    record = "".join(f"{file},sha256={_digest(text)},{len(text)}\n" for file, text in files.items()) + f"{info}/RECORD,,\n"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(file, text)
    (place / "index.html").write_text("".join(f'<a href="{one.name}">{one.name}</a>' for one in sorted(place.glob("*.whl"))))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


def install(place: Path, pins: str, **environment: str) -> subprocess.CompletedProcess[str]:
    build = place / "build"
    build.mkdir()
    for name in ("scripts/image_environment.sh", "requirements/uv.txt"):
        (build / Path(name).name).write_bytes((ROOT / name).read_bytes())
    (build / "pins.txt").write_text(pins)
    command = ["sh", str(build / "image_environment.sh"), str(place / "environment"), "-r", "pins.txt"]
    settings = {**os.environ, "UV_DEFAULT_INDEX": (place / "usual").as_uri(), **environment}
    return subprocess.run(command, env=settings, capture_output=True, text=True, check=False, timeout=200)


def found(place: Path) -> set[str]:
    [packages] = (place / "environment").glob("lib/python3*/site-packages")
    return {path.name.removesuffix(".dist-info") for path in packages.glob("*.dist-info")}


@pytest.fixture
def pins(tmp_path: Path) -> str:
    """torch with a helper of its own, and alpha, which both indexes have."""
    usual, other = tmp_path / "usual", tmp_path / "other"
    hashes = {
        "torch==2.0": wheel(usual, "torch", "2.0", ("triton", "alpha")),
        "triton==1.0": wheel(usual, "triton", "1.0"),
        "alpha==1.0": wheel(usual, "alpha", "1.0"),
    }
    wheel(other, "torch", "2.0+cpu", ("alpha",))
    wheel(other, "alpha", "1.0", ("torch",))  # another file under the same name
    return "".join(f"{pin} \\\n    --hash=sha256:{digest}\n" for pin, digest in hashes.items())


def test_another_build_of_torch_comes_alone_and_the_rest_is_checked(tmp_path: Path, pins: str) -> None:
    done = install(tmp_path, pins, TORCH_INDEX=(tmp_path / "other").as_uri())
    assert done.returncode == 0, done.stderr
    assert found(tmp_path) == {"torch-2.0+cpu", "alpha-1.0"}
    [metadata] = (tmp_path / "environment").glob("lib/python3*/site-packages/alpha-1.0.dist-info/METADATA")
    assert "Requires-Dist" not in metadata.read_text()  # the file that the pins know


BACKEND = """
import zipfile
def build_wheel(directory, *_):
    name = "omega-1.0-py3-none-any.whl"
    with zipfile.ZipFile(directory + "/" + name, "w") as archive:
        archive.writestr("omega-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: omega\\nVersion: 1.0\\n")
        archive.writestr("omega-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        archive.writestr("omega-1.0.dist-info/RECORD", "")
    return name
class __legacy__:
    build_wheel = staticmethod(build_wheel)
"""


@pytest.mark.parametrize("pinned", [True, False])
def test_what_is_published_as_source_is_built_by_the_setuptools_of_the_pins_alone(tmp_path: Path, pinned: bool) -> None:
    usual = tmp_path / "usual"
    builder = wheel(usual, "setuptools", "84.0", code=BACKEND)
    source = usual / "omega"
    source.mkdir()
    with tarfile.open(source / "omega-1.0.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo("omega-1.0/setup.py")
        archive.addfile(entry, io.BytesIO())
    (source / "index.html").write_text('<a href="omega-1.0.tar.gz">omega-1.0.tar.gz</a>')
    digest = hashlib.sha256((source / "omega-1.0.tar.gz").read_bytes()).hexdigest()
    pins = f"omega==1.0 \\\n    --hash=sha256:{digest}\n" + (f"setuptools==84.0 \\\n    --hash=sha256:{builder}\n" if pinned else "")
    done = install(tmp_path, pins)
    assert (done.returncode == 0) is pinned, done.stderr
    if pinned:
        assert found(tmp_path) == {"omega-1.0", "setuptools-84.0"}


def test_a_changed_package_is_refused_also_with_another_build_of_torch(tmp_path: Path, pins: str) -> None:
    wheel(tmp_path / "usual", "alpha", "1.0", ("triton",))
    done = install(tmp_path, pins, TORCH_INDEX=(tmp_path / "other").as_uri())
    assert done.returncode != 0
    assert "Hash mismatch for `alpha==1.0`" in done.stderr
