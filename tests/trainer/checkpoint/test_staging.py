"""What ranks leave on the disk of their node: a save counts when each of them has written its marker."""

from __future__ import annotations

from pathlib import Path

import pytest
from gang import write_rank

from llmtrain_trainer.checkpoint.manifest import META, Name, rank_file
from llmtrain_trainer.checkpoint.staging import Staged, finished, names, remove
from llmtrain_trainer.checkpoint.store.errors import BadCheckpointError

OLD, NEW = "step-00000010-a0-r0", "step-00000010-a0-r1"


def stage(root: Path, name: str, *ranks: int, save_id: str = "s") -> None:
    for rank in ranks:
        write_rank(root / name, rank, 4, 1000, save_id)


def only(root: Path) -> Staged:
    (found,) = finished(root, (0, 1))
    return found


def test_before_the_first_save_there_is_nothing(tmp_path: Path) -> None:
    assert names(tmp_path / "absent") == [] and finished(tmp_path / "absent", (0, 1)) == []


def test_saves_are_found_oldest_first_and_strangers_are_not(tmp_path: Path) -> None:
    for name in (NEW, OLD, "lost+found", "step-10", f"moved-{OLD}"):
        stage(tmp_path, name, *((0, 1) if Name.parse(name) else ()))
        (tmp_path / name).mkdir(exist_ok=True)
    assert [str(name) for name in names(tmp_path)] == [OLD, NEW]
    assert [str(staged.name) for staged in finished(tmp_path, (0, 1))] == [OLD, NEW]


def test_a_save_is_finished_when_its_last_local_rank_is(tmp_path: Path) -> None:
    stage(tmp_path, OLD, 0)
    assert finished(tmp_path, (0, 1)) == [] and [str(name) for name in names(tmp_path)] == [OLD]
    stage(tmp_path, OLD, 1)
    staged = only(tmp_path)
    assert staged.save_id == "s" and [part.rank for part in staged.parts] == [0, 1]
    assert staged.files == {"__0_0.distcp": 1000, "__1_0.distcp": 1000, ".metadata": staged.files[".metadata"]}
    staged.check()


def test_ranks_of_other_nodes_are_not_waited_for(tmp_path: Path) -> None:
    stage(tmp_path, OLD, 2, 3)
    assert finished(tmp_path, (0, 1)) == []
    (staged,) = finished(tmp_path, (2, 3))
    assert set(staged.files) == {"__2_0.distcp", "__3_0.distcp"}


def test_a_marker_may_be_read_while_the_rank_renames_files_of_another_save(tmp_path: Path) -> None:
    stage(tmp_path, OLD, 0, 1)
    stage(tmp_path, NEW, 0)
    assert str(only(tmp_path).name) == OLD


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (lambda directory: (directory / "__1_0.distcp").unlink(), "__1_0.distcp has no bytes on disk, its rank wrote 1000"),
        (lambda directory: (directory / "__1_0.distcp").write_bytes(b""), "__1_0.distcp has 0 bytes on disk, its rank wrote 1000"),
        (lambda directory: (directory / "__0_0.distcp").write_bytes(bytes(1001)), "__0_0.distcp has 1001 bytes on disk"),
        (lambda directory: write_rank(directory, 1, 4, 1000, "another"), "wrote two different saves under one name"),
    ],
    ids=["gone", "empty", "longer", "another save"],
)
def test_what_is_not_as_its_rank_wrote_it_is_refused(tmp_path: Path, harm: object, why: str) -> None:
    stage(tmp_path, OLD, 0, 1)
    assert callable(harm)
    harm(tmp_path / OLD)
    with pytest.raises(BadCheckpointError, match=f"^{OLD}: .*{why}"):
        only(tmp_path).check()


def test_the_facts_of_rank_0_are_read_and_a_torn_file_of_them_is_told(tmp_path: Path) -> None:
    stage(tmp_path, OLD, 0, 1)
    staged = only(tmp_path)
    assert (staged.meta().step, staged.meta().consumed_samples, staged.meta().mesh) == (10, 80, {"dp": 4})
    for harm in (lambda path: path.write_text('{"step": '), lambda path: path.write_text("{}"), lambda path: path.unlink()):
        harm(tmp_path / OLD / META)
        with pytest.raises(BadCheckpointError, match=f"^{OLD}: meta.json cannot be read"):
            staged.meta()


def test_what_is_removed_is_gone_and_may_be_removed_again(tmp_path: Path) -> None:
    stage(tmp_path, OLD, 0, 1)
    stage(tmp_path, NEW, 0, 1)
    for _ in range(2):
        remove(tmp_path, Name(attempt=0, round=0, step=10))
    assert [str(name) for name in names(tmp_path)] == [NEW] and not (tmp_path / OLD / rank_file(0)).exists()
