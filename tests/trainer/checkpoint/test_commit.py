"""Node 0's part of the protocol over a directory: what is sealed, what is refused, what is deleted and when."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from gang import write_rank

from llmtrain_trainer.checkpoint.commit import Committer
from llmtrain_trainer.checkpoint.manifest import CheckpointFile, Name, NodePart, encode, node_file
from llmtrain_trainer.checkpoint.restore import find, read
from llmtrain_trainer.checkpoint.staging import Staged, finished
from llmtrain_trainer.checkpoint.store.errors import BadCheckpointError
from llmtrain_trainer.checkpoint.store.file_store import FileStore
from llmtrain_trainer.checkpoint.store.store import read_or_none


class Hall:
    """Two nodes with a rank each, their files in the store, and the committer of node 0."""

    def __init__(self, root: Path, keep: int = 2, every: int | None = None) -> None:
        self.root, self.store = root, FileStore(root / "store")
        self.committer = Committer(self.store, nodes=2, keep=keep, keep_every_steps=every)

    def staged(self, step: int, save_id: str = "", facts: dict[str, object] | None = None) -> Staged:
        name = str(Name(attempt=0, round=0, step=step))
        save_id = save_id or f"save of {name}"
        directory = self.root / "staging" / name
        write_rank(directory, 0, 2, 100, save_id)
        if facts:
            (directory / "meta.json").write_text(json.dumps({"step": step, **facts}))
        write_rank(self.root / "other" / name, 1, 2, 100, save_id)
        (found,) = [each for each in finished(self.root / "staging", (0,)) if str(each.name) == name]
        return found

    def send(self, staged: Staged, node: int, save_id: str | None = None) -> None:
        """Put what a node holds of the save into the store, its part last."""
        directory = staged.directory if node == 0 else self.root / "other" / str(staged.name)
        files = []
        for path in sorted(directory.iterdir()):
            if path.name.startswith("__") or path.name == ".metadata":
                digest = self.store.put_file(path, f"{staged.name}/{path.name}")
                files.append(CheckpointFile(path=path.name, bytes=digest.bytes, sha256=digest.sha256, node=node))
        part = NodePart(node=node, ranks=(node,), world_size=2, save_id=save_id or staged.save_id, files=tuple(files))
        self.store.put_bytes(f"{staged.name}/{node_file(node)}", encode(part))

    def commit(self, step: int, **facts: object) -> Staged:
        staged = self.staged(step, facts=facts)
        self.send(staged, 0)
        self.send(staged, 1)
        assert self.committer.seal(staged) is not None
        return staged

    def steps(self) -> list[int]:
        found = {entry.key.partition("/")[0] for entry in self.store.entries()}
        return sorted(name.step for text in found if (name := Name.parse(text)))


@pytest.fixture
def hall(tmp_path: Path) -> Hall:
    return Hall(tmp_path)


def test_a_save_is_sealed_when_the_last_node_has_sent_its_part(hall: Hall) -> None:
    staged = hall.staged(10)
    assert hall.committer.seal(staged) is None
    hall.send(staged, 0)
    assert hall.committer.seal(staged) is None and read_or_none(hall.store, f"{staged.name}/COMMIT") is None
    hall.send(staged, 1)
    commit, size = hall.committer.seal(staged) or pytest.fail("not sealed")
    manifest = read(find(hall.store, str(staged.name)), hall.store)
    assert size == manifest.bytes == 200 + len((staged.directory / ".metadata").read_bytes())
    assert commit.manifest_sha256 == hashlib.sha256(hall.store.get_bytes(f"{staged.name}/manifest.json")).hexdigest()
    assert {file.path: file.node for file in manifest.files} == {".metadata": 0, "__0_0.distcp": 0, "__1_0.distcp": 1}


def test_the_part_of_another_save_under_the_same_name_is_not_joined(hall: Hall) -> None:
    staged = hall.staged(10, save_id="second try")
    hall.send(staged, 0)
    hall.send(staged, 1, save_id="first try")
    assert hall.committer.seal(staged) is None, "what node 1 left of the first try is none of the second"
    hall.send(staged, 1)
    assert hall.committer.seal(staged) is not None


def test_a_part_is_read_once(hall: Hall) -> None:
    staged = hall.staged(10)
    hall.send(staged, 1)
    first = hall.committer.part(staged, 1)
    hall.store.delete([f"{staged.name}/{node_file(1)}"])
    assert first is not None and hall.committer.part(staged, 1) is first


@pytest.mark.parametrize("change", ["cut", "gone", "grown"])
def test_what_is_not_in_the_store_as_it_was_sent_is_not_sealed(hall: Hall, change: str) -> None:
    staged = hall.staged(10)
    hall.send(staged, 0)
    hall.send(staged, 1)
    key = f"{staged.name}/__1_0.distcp"
    hall.store.delete([key]) if change == "gone" else hall.store.put_bytes(key, bytes(99 if change == "cut" else 101))
    had = {"cut": "99", "gone": "no", "grown": "101"}[change]
    with pytest.raises(BadCheckpointError, match=f"{key} has {had} bytes in the store, its node sent 100"):
        hall.committer.seal(staged)
    assert read_or_none(hall.store, f"{staged.name}/COMMIT") is None


def test_a_name_that_another_run_has_committed_is_refused(hall: Hall) -> None:
    staged = hall.staged(10)
    hall.send(staged, 0)
    hall.send(staged, 1)
    hall.store.put_bytes(f"{staged.name}/COMMIT", b"{}")
    with pytest.raises(BadCheckpointError, match="was committed by another run meanwhile"):
        hall.committer.seal(staged)
    assert hall.store.get_bytes(f"{staged.name}/COMMIT") == b"{}"


def test_the_newest_stay_and_what_was_torn_before_them_goes(hall: Hall) -> None:
    torn = hall.staged(15)
    hall.send(torn, 1)
    for step in (10, 20, 30):
        hall.commit(step)
    ahead = hall.staged(40)
    hall.send(ahead, 1)
    hall.committer.retain(busy=set())
    assert hall.steps() == [20, 30, 40]


def test_what_is_being_uploaded_is_not_deleted(hall: Hall) -> None:
    slow = hall.staged(15)
    hall.send(slow, 1)
    for step in (20, 30):
        hall.commit(step)
    hall.committer.retain(busy={slow.name})
    assert hall.steps() == [15, 20, 30]


def test_every_so_many_steps_one_stays_for_ever(tmp_path: Path) -> None:
    hall = Hall(tmp_path, every=20)
    for step in (10, 20, 30, 40, 50):
        hall.commit(step)
        hall.committer.retain(busy=set())
    assert hall.steps() == [20, 40, 50]


def test_saves_made_while_training_diverged_push_out_none_from_before(hall: Hall) -> None:
    for step in (10, 20):
        hall.commit(step)
    for step in (30, 40, 50):
        hall.commit(step, diverged=True)
        hall.committer.retain(busy=set())
    assert hall.steps() == [10, 20, 40, 50]


def test_one_that_this_run_found_bad_pushes_out_none_either(hall: Hall) -> None:
    names = [hall.commit(step).name for step in (10, 20, 30)]
    hall.committer.distrusted.add(names[2])
    hall.committer.retain(busy=set())
    assert hall.steps() == [10, 20, 30]
    hall.commit(40)
    hall.committer.retain(busy=set())
    assert hall.steps() == [20, 30, 40]


def test_a_listing_that_left_a_commit_out_costs_no_checkpoint(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [str(hall.commit(step).name) for step in (10, 20, 30)]
    whole = hall.store.entries
    monkeypatch.setattr(hall.store, "entries", lambda prefix="": [e for e in whole(prefix) if e.key != f"{names[1]}/COMMIT"])
    hall.committer.retain(busy=set())
    monkeypatch.undo()
    assert f"{names[1]}/COMMIT" in {entry.key for entry in hall.store.entries()}


def test_uploads_left_unfinished_are_swept_once(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    swept: list[float] = []
    monkeypatch.setattr(hall.store, "abort_stale_uploads", lambda seconds: swept.append(seconds) or 0)
    hall.commit(10)
    for _ in range(3):
        hall.committer.retain(busy=set())
    assert swept == [86_400.0]


def test_for_room_garbage_goes_first_then_the_oldest_and_the_last_good_one_never(hall: Hall) -> None:
    names = {step: hall.commit(step).name for step in (10, 20, 30)}
    torn, busy = hall.staged(15), hall.staged(40)
    hall.send(torn, 1)
    hall.send(busy, 1)
    freed = [hall.committer.make_room(busy={busy.name}) for _ in range(4)]
    assert freed == [torn.name, names[10], names[20], None]
    assert hall.steps() == [30, 40]


def test_for_room_nothing_goes_before_the_newest_was_read_to_its_last_byte(hall: Hall) -> None:
    newest = [hall.commit(step).name for step in (10, 20)][-1]
    shard = hall.root / "store" / str(newest) / "__1_0.distcp"
    data = bytearray(shard.read_bytes())
    data[50] ^= 1
    shard.write_bytes(data)
    with pytest.raises(BadCheckpointError, match="has sha256"):
        hall.committer.make_room(busy=set())
    assert hall.steps() == [10, 20]


def test_a_small_object_that_is_not_there_is_none(hall: Hall) -> None:
    assert read_or_none(hall.store, "nothing") is None
    hall.store.put_bytes("empty", b"")
    assert read_or_none(hall.store, "empty") == b""
