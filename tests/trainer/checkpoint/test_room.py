"""A store without room, what drafts leave behind, and what retention may take for superfluous."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from gang import Gang, damage

from llmtrain_trainer.agent.preflight import check_store
from llmtrain_trainer.checkpoint.manifest import Name
from llmtrain_trainer.checkpoint.restore import choose
from llmtrain_trainer.checkpoint.store.errors import StoreFullError
from llmtrain_trainer.checkpoint.store.file_store import FileStore

FIRST, SECOND, THIRD, FOURTH = (f"step-{step:08d}-a0-r0" for step in (10, 20, 30, 40))


class SmallDisk(FileStore):
    """A directory with room for so many bytes."""

    def __init__(self, root: Path, room: int) -> None:
        super().__init__(root)
        self.where, self.room = root, room
        self._one_at_a_time = threading.Lock()  # files of a save are sent by several threads, and a real disk counts them all

    def put_file(self, source: Path, key: str) -> object:  # type: ignore[override]
        with self._one_at_a_time:
            with self._explained("write", key):
                used = sum(path.stat().st_size for path in self.where.rglob("*") if path.is_file())
                if used + source.stat().st_size > self.room:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().put_file(source, key)


def test_on_a_full_disk_the_oldest_goes_before_the_next_is_committed(tmp_path: Path) -> None:
    gang = Gang(tmp_path, SmallDisk(tmp_path / "small", 80_000))
    for name in (FIRST, SECOND, THIRD):
        gang.save(name, size=15_000)
    assert gang.committed() == [SECOND, THIRD], "two fit, and the third beside one of them"
    assert [FIRST in told for told in gang.told("checkpoint_deleted")] == [True]
    assert gang.told("store_outage") == []


def test_where_nothing_more_may_go_the_good_one_stays_and_the_save_waits(tmp_path: Path) -> None:
    store = SmallDisk(tmp_path / "small", 80_000)
    gang = Gang(tmp_path, store)
    gang.save(FIRST, size=15_000)
    gang.save(SECOND, size=15_000)
    store.room = 30_000  # somebody else fills the disk
    gang.save(THIRD, size=15_000)
    assert gang.committed() == [SECOND]
    assert isinstance(gang.uploaders[0].outage, StoreFullError)
    assert "No space left on device" in gang.told("store_outage")[0]
    assert not list(tmp_path.rglob("*.part"))
    store.room = 200_000
    gang.poll()
    assert gang.committed() == [SECOND, THIRD] and gang.uploaders[0].outage is None


def test_the_only_good_one_is_never_deleted_for_room_where_the_newest_is_damaged(tmp_path: Path) -> None:
    store = SmallDisk(tmp_path / "small", 80_000)
    gang = Gang(tmp_path, store)
    gang.save(FIRST, size=15_000)
    gang.save(SECOND, size=15_000)
    damage(store, f"{SECOND}/__0_0.distcp", change="flip")
    store.room = 65_000
    gang.save(THIRD, size=15_000)
    assert FIRST in gang.committed(), "the newest does not verify, so nothing older may go"


def test_what_this_run_found_bad_pushes_out_no_good_one(gang: Gang) -> None:
    gang.save(FIRST)
    gang.save(SECOND)
    gang.uploaders[0].distrust(Name(0, 0, 20))
    gang.save(THIRD)
    assert FIRST in gang.committed()
    gang.save(FOURTH)
    assert FIRST not in gang.committed() and {THIRD, FOURTH} <= set(gang.committed())


def test_saves_of_a_diverging_run_push_out_none_of_those_before(gang: Gang, monkeypatch: pytest.MonkeyPatch) -> None:
    gang.save(FIRST)
    gang.save(SECOND)
    monkeypatch.setattr("gang.FACTS", {"diverged": True})
    gang.save(THIRD)
    gang.save(FOURTH)
    assert gang.committed() == [FIRST, SECOND, THIRD, FOURTH]
    later = [f"step-{step:08d}-a0-r0" for step in (50, 60, 70)]
    for name in later:
        gang.save(name)
    assert gang.committed() == [FIRST, SECOND, *later[-2:]], "and no more of them than `keep` stay"


def test_a_step_beyond_the_newest_is_not_deleted(gang: Gang) -> None:
    gang.save(FOURTH)
    for step in (5, 6, 7):
        gang.save(f"step-{step:08d}-a1-r1")
    assert gang.committed() == ["step-00000006-a1-r1", "step-00000007-a1-r1", FOURTH]
    for step in (50, 60):
        gang.save(f"step-{step:08d}-a1-r1")
    assert FOURTH not in gang.committed()


class Forgetful(FileStore):
    """Leaves the COMMIT of one checkpoint out of its listings."""

    def entries(self, prefix: str = "") -> list:  # type: ignore[type-arg]
        return [entry for entry in super().entries(prefix) if entry.key != f"{FIRST}/COMMIT"]


def test_a_listing_that_leaves_a_commit_out_deletes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "store"
    Gang(tmp_path / "before", FileStore(root)).save(FIRST)
    gang = Gang(tmp_path / "after", Forgetful(root))
    gang.save(SECOND)
    assert (root / FIRST / "COMMIT").exists() and (root / FIRST / "__0_0.distcp").exists()
    assert choose(FileStore(root), 10, gang.events.append) is not None


@pytest.fixture
def dead() -> int:
    """The number of a process that is gone."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    return gone.pid


def drafts(root: Path) -> list[str]:
    return sorted(path.name for path in root.rglob("*.part"))


def test_a_draft_of_a_dead_process_is_swept_after_the_next_commit(tmp_path: Path, dead: int) -> None:
    from llmtrain_trainer.checkpoint.store.file_store import _HOST

    root = tmp_path / "store"
    gang = Gang(tmp_path, FileStore(root))
    for place in (root, root / "export" / "full", root / "step-00000005-a0-r0"):
        place.mkdir(parents=True, exist_ok=True)
        (place / f".model.safetensors.{_HOST}-{dead}-77.part").write_bytes(b"half")
    (root / f".COMMIT.{_HOST}-{os.getpid()}-77.part").write_bytes(b"ours, on its way")
    (root / ".COMMIT.otherhost-1-77.part").write_bytes(b"of a node that lives")
    gang.save(FIRST)
    assert drafts(root) == sorted([f".COMMIT.{_HOST}-{os.getpid()}-77.part", ".COMMIT.otherhost-1-77.part"])
    assert not (root / "step-00000005-a0-r0").exists()


def test_a_draft_of_another_host_goes_after_a_day(tmp_path: Path) -> None:
    root = tmp_path / "store"
    root.mkdir()
    old = root / ".COMMIT.otherhost-1-77.part"
    old.write_bytes(b"half")
    os.utime(old, (time.time() - 90_000,) * 2)
    Gang(tmp_path, FileStore(root)).save(FIRST)
    assert drafts(root) == []


def test_a_store_that_is_full_at_the_start_is_told_and_no_reason_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("llmtrain_trainer.checkpoint.store.file_store._sync", full)
    said = check_store(FileStore(tmp_path / "store"), 0)
    assert said is not None and "is full" in said and "No space left on device" in said
    monkeypatch.undo()
    assert check_store(FileStore(tmp_path / "store"), 0) is None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_write_that_fails_leaves_no_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("llmtrain_trainer.checkpoint.store.file_store._sync", full)
    store, source = FileStore(tmp_path / "store"), tmp_path / "in"
    source.write_bytes(b"data")
    for act in (lambda: store.put_file(source, "a/b"), lambda: store.put_bytes("a/b", b"x"), lambda: store.put_if_absent("a/b", b"x")):
        with pytest.raises(StoreFullError, match="Free space there"):
            act()
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
