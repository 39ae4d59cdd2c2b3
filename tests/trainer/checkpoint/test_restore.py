"""Which checkpoint is chosen, when some are damaged; and what arrives on the local disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from gang import Gang, content, damage

from llmtrain_trainer.checkpoint.newest import NEWEST
from llmtrain_trainer.checkpoint.restore import choose, fetch, find, list_checkpoints, next_attempt, next_round
from llmtrain_trainer.checkpoint.store.errors import BadCheckpointError, NoneVerifiesError, ResumeError
from llmtrain_trainer.checkpoint.store.file_store import FileStore
from llmtrain_trainer.checkpoint.store.store import Store

FIRST, SECOND = "step-00000010-a0-r0", "step-00000020-a0-r0"
SHARD = f"{SECOND}/__1_0.distcp"


@pytest.fixture
def saved(gang: Gang) -> Gang:
    """Two committed checkpoints; what this node wrote is no longer on its disk."""
    gang.save(FIRST)
    gang.save(SECOND)
    for path in gang.staging().iterdir():
        path.rename(path.with_name(f"moved-{path.name}"))
    gang.events.clear()
    return gang


def chosen(gang: Gang, resume: object = "latest", **options: object) -> str | None:
    found = choose(gang.store, resume, gang.events.append, **options)  # type: ignore[arg-type]
    return str(found.name) if found else None


@pytest.mark.parametrize(
    "key, change, reason",
    [
        (SHARD, "flip", "has sha256"),
        (SHARD, "cut", "has 500 bytes, its manifest says 1000"),
        (SHARD, "remove", f"{SECOND} lacks __1_0.distcp"),
        (f"{SECOND}/.metadata", "remove", f"{SECOND} lacks .metadata"),
        (f"{SECOND}/COMMIT", "remove", f"{SECOND} has no COMMIT: its upload did not end"),
        (f"{SECOND}/COMMIT", "cut", "manifest.json or COMMIT that cannot be read"),
        (f"{SECOND}/manifest.json", "remove", f"{SECOND} has no manifest.json"),
        (f"{SECOND}/manifest.json", "cut", "manifest.json or COMMIT that cannot be read"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_for_the_last_good_one(saved: Gang, key: str, change: str, reason: str) -> None:
    damage(saved.store, key, change=change)
    assert chosen(saved) == FIRST
    assert len(saved.told("checkpoint_rejected")) == 1, "one clear line"
    assert reason in saved.told("checkpoint_rejected")[0]


def test_a_manifest_that_was_changed_after_the_commit_is_not_believed(saved: Gang) -> None:
    key = f"{SECOND}/manifest.json"
    saved.store.put_bytes(key, saved.store.get_bytes(key).replace(b'"step": 20', b'"step": 21'))
    assert chosen(saved) == FIRST
    assert "is not the one COMMIT sealed" in saved.told("checkpoint_rejected")[0]


def test_the_newest_good_one_is_chosen_without_a_word(saved: Gang) -> None:
    assert chosen(saved) == SECOND
    assert saved.events == []


def test_when_all_are_damaged_nothing_begins_at_step_0_and_every_one_is_named(saved: Gang) -> None:
    for name in (FIRST, SECOND):
        damage(saved.store, f"{name}/__0_0.distcp", change="flip")
    with pytest.raises(NoneVerifiesError, match=rf"none verifies: .*{SECOND}.*has sha256.*{FIRST}.*checkpoint.resume to none"):
        chosen(saved)
    assert len(saved.told("checkpoint_rejected")) == 2
    assert chosen(saved, "none") is None, "the way out"


def test_saves_that_did_not_end_are_no_reason_to_stop(saved: Gang) -> None:
    for name in (FIRST, SECOND):
        damage(saved.store, f"{name}/COMMIT", change="remove")
    damage(saved.store, NEWEST, change="remove")
    assert chosen(saved) is None


def test_an_empty_store_means_the_beginning_and_none_always_does(gang: Gang) -> None:
    assert chosen(gang) is None
    gang.save(FIRST)
    assert chosen(gang, "none") is None


def test_a_given_step_is_chosen_even_where_a_newer_one_is_good(saved: Gang) -> None:
    assert chosen(saved, 10) == FIRST


@pytest.mark.parametrize("resume, change", [(15, None), (20, "flip")], ids=["missing", "damaged"])
def test_a_given_step_that_cannot_be_had_is_an_error_with_what_there_is(saved: Gang, resume: int, change: str | None) -> None:
    if change:
        damage(saved.store, SHARD, change=change)
    with pytest.raises(ResumeError, match=rf"checkpoint.resume is {resume}, but .* no good checkpoint .*: {SECOND}, {FIRST}\. Give one"):
        chosen(saved, resume)


def test_a_name_that_is_to_be_skipped_is_not_chosen(saved: Gang) -> None:
    assert chosen(saved, skip={SECOND}) == FIRST


def test_a_later_round_that_went_back_is_newer_than_an_earlier_one_that_went_further(gang: Gang) -> None:
    gang.save("step-00000100-a0-r0")
    gang.save("step-00000060-a0-r1")
    assert chosen(gang) == "step-00000060-a0-r1"
    assert next_round(gang.store, 0) == 2 and next_round(gang.store, 1) == 0
    assert next_attempt(gang.store) == 1


def test_exports_beside_the_checkpoints_are_not_taken_for_checkpoints(saved: Gang) -> None:
    saved.store.put_bytes("export/full/model.safetensors", b"weights")
    assert [str(found.name) for found in list_checkpoints(saved.store)] == [SECOND, FIRST]


def test_a_fetched_checkpoint_is_what_the_ranks_wrote(saved: Gang, tmp_path: Path) -> None:
    found = find(saved.store, SECOND)
    directory = fetch(found, saved.store, tmp_path / "restore")
    assert sorted(path.name for path in directory.iterdir()) == [".metadata", "__0_0.distcp", "__1_0.distcp", "manifest.json"]
    assert (directory / "__1_0.distcp").read_bytes() == content(SECOND, 1, 1000)


def test_a_damaged_file_is_not_fetched_even_if_nobody_verified_before(saved: Gang, tmp_path: Path) -> None:
    damage(saved.store, SHARD, change="flip")
    with pytest.raises(BadCheckpointError, match="has sha256"):
        fetch(find(saved.store, SECOND), saved.store, tmp_path / "restore")
    assert not (tmp_path / "restore" / SECOND / "__1_0.distcp").exists()


def test_a_name_that_is_not_there_is_an_error(store: Store) -> None:
    with pytest.raises(ResumeError, match="There is no checkpoint step-00000010-a0-r0 in"):
        find(store, FIRST)


@pytest.mark.parametrize("local", ["good", "damaged"])
def test_what_this_node_wrote_is_used_only_where_its_digest_is_right(gang: Gang, local: str) -> None:
    gang.save(FIRST)
    own = gang.staging() / FIRST / "__0_0.distcp"
    if local == "damaged":
        own.write_bytes(b"x" * 1000)
    directory = fetch(find(gang.store, FIRST), gang.store, gang.runs[0] / "restore")
    assert (directory / "__0_0.distcp").read_bytes() == content(FIRST, 0, 1000)
    in_place = gang.store.local(f"{FIRST}/__0_0.distcp") is not None
    assert (directory / "__0_0.distcp").samefile(own) == (local == "good" and not in_place), "a directory's own file is what is judged"


def test_a_whole_copy_of_this_node_does_not_hide_a_damaged_file_of_a_directory(tmp_path: Path) -> None:
    gang = Gang(tmp_path, FileStore(tmp_path / "store"))
    gang.save(FIRST)
    damage(gang.store, f"{FIRST}/__0_0.distcp", change="flip")
    with pytest.raises(BadCheckpointError, match="has sha256"):
        fetch(find(gang.store, FIRST), gang.store, gang.runs[0] / "restore")


def test_files_fetched_before_are_used_again_and_older_checkpoints_removed(saved: Gang, tmp_path: Path) -> None:
    into = tmp_path / "restore"
    fetch(find(saved.store, FIRST), saved.store, into)
    found = choose(saved.store, "latest", saved.events.append, into=into)
    assert found is not None and [path.name for path in into.iterdir()] == [SECOND]
    before = (into / SECOND / "__0_0.distcp").stat()
    fetch(found, saved.store, into)
    assert (into / SECOND / "__0_0.distcp").stat().st_mtime_ns == before.st_mtime_ns
    (into / SECOND / "__0_0.distcp").unlink()
    (into / SECOND / "__0_0.distcp").write_bytes(b"damaged here")
    fetch(found, saved.store, into)
    assert (into / SECOND / "__0_0.distcp").read_bytes() == content(SECOND, 0, 1000)
