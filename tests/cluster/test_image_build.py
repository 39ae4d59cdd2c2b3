"""How images are built and shared: the parts that need neither a cluster nor root."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from tests.cluster.image import build, settings, storage, unpacked

BUILT = storage.Built(operator="o:1", trainer="t:1", dependencies="llmtrain/trainer-dependencies:abc", sources="s", environment="e")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    storage.home().mkdir(parents=True)
    return tmp_path


def test_how_the_machine_reaches_its_index_is_told_by_secrets_and_mounts_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels, pip = tmp_path / "wheels", tmp_path / "pip.conf"
    wheels.mkdir()
    pip.write_text("[global]\n")
    for name, value in {"UV_DEFAULT_INDEX": "index of ours", "PIP_FIND_LINKS": str(wheels), "PIP_CONFIG_FILE": str(pip)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("UV_CACHE_DIR", "/not/of/this/build")
    options = settings.options(tmp_path)
    assert f"--secret=id=pip.conf,src={pip}" in options and f"--volume={wheels}:{wheels}:ro" in options
    exported = (tmp_path / "settings").read_text().splitlines()
    assert "export UV_DEFAULT_INDEX='index of ours'" in exported and not any("UV_CACHE_DIR" in line for line in exported)
    assert not any("index of ours" in option for option in options)
    assert (tmp_path / "settings").stat().st_mode & 0o077 == 0


def test_a_node_starts_with_links_to_the_unpacked_layers_and_a_copy_of_the_rest(tmp_path: Path) -> None:
    source = storage.unpacked(BUILT.dependencies)
    layer = source / "io.containerd.snapshotter.v1.overlayfs" / "snapshots" / "1" / "fs"
    layer.mkdir(parents=True)
    (layer / "large").write_text("a layer")
    (source / "meta.db").write_text("a database")
    (storage.home() / "built.json").write_text(json.dumps(asdict(BUILT)))
    node = tmp_path / "node"
    unpacked.link(node)
    (node / "meta.db").write_text("changed by the node")
    assert (source / "meta.db").read_text() == "a database"
    linked = node / layer.parent.relative_to(source)
    assert linked.is_symlink() and (linked / "fs" / "large").read_text() == "a layer"


def test_a_node_starts_empty_where_no_image_was_built(tmp_path: Path) -> None:
    unpacked.link(tmp_path / "node")
    assert not (tmp_path / "node").exists()


def test_only_a_change_of_the_trainers_dependencies_takes_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tmp_path / "tree"
    for name in (*build.DEPENDENCIES, *build.RECIPES, *(f"{part}/module.py" for part in build.CODE)):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("first")
    dockerfile = tree / "trainer_image" / "Dockerfile"
    dockerfile.write_text("FROM base AS dependencies\nRUN install\n\nFROM dependencies\nCOPY code /code\n")
    monkeypatch.setattr(build, "REPOSITORY", tree)
    (storage.home() / "built.json").write_text(json.dumps(asdict(BUILT) | {"environment": build.environment()}))

    (tree / build.CODE[1] / "module.py").write_text("second")
    dockerfile.write_text(dockerfile.read_text().replace("/code", "/elsewhere"))
    assert not build.takes_minutes()
    dockerfile.write_text(dockerfile.read_text().replace("install", "install more"))
    assert build.takes_minutes()
    dockerfile.write_text(dockerfile.read_text().replace("install more", "install"))
    (tree / "requirements" / "trainer.txt").write_text("another pin")
    assert build.takes_minutes()


def test_the_digest_of_the_code_leaves_out_what_running_it_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "REPOSITORY", tmp_path)
    (tmp_path / "code" / "__pycache__").mkdir(parents=True)
    (tmp_path / "code" / "module.py").write_text("first")
    before = build.digest("code")
    (tmp_path / "code" / "__pycache__" / "module.pyc").write_text("bytecode")
    assert build.digest("code") == before
    (tmp_path / "code" / "module.py").write_text("second")
    assert build.digest("code") != before
