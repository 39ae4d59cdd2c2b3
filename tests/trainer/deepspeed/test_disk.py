"""The files of an optimizer on a disk, as bare files in a checkpoint and as the tree that DeepSpeed reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmtrain_trainer.checkpoint.manifest import File
from llmtrain_trainer.engines.deepspeed.disk import TREE, flatten, unfold


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """What DeepSpeed leaves for two ranks."""
    for rank in range(2):
        (tmp_path / TREE / f"rank{rank:02d}" / "optimizer").mkdir(parents=True)
        (tmp_path / TREE / f"rank{rank:02d}" / "optimizer" / f"{rank}.tensor.swp").write_text(f"moments of {rank}")
    (tmp_path / "weights.pt").touch()
    return tmp_path


def test_a_checkpoint_holds_bare_files_that_a_manifest_can_name(saved: Path) -> None:
    flatten(saved)
    assert all(path.is_file() for path in saved.iterdir())
    for path in saved.iterdir():
        File(path=path.name, bytes=0, sha256="0" * 64, node=0)
    assert len(list(saved.iterdir())) == 3


def test_a_rank_finds_its_own_files_where_they_were(saved: Path) -> None:
    flatten(saved)
    unfold(saved, 1)
    unfold(saved, 1)
    assert (saved / TREE / "rank01" / "optimizer" / "1.tensor.swp").read_text() == "moments of 1"
    assert not (saved / TREE / "rank00").exists()


def test_a_save_without_a_disk_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").touch()
    flatten(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pt"]
