"""The files beside the shards: what is joined, what is believed, and what a later version may add."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from llmtrain_trainer.checkpoint.manifest import (
    CheckpointFile,
    Commit,
    Manifest,
    Meta,
    Name,
    NodePart,
    commit_of,
    diverged,
    encode,
    join,
    read_manifest,
)
from llmtrain_trainer.checkpoint.store.errors import BadCheckpointError
from llmtrain_trainer.data.mixing.course import Course, CourseDataset

NAME = Name(attempt=0, round=1, step=200)
TEXT = "step-00000200-a0-r1"


def file(path: str, node: int = 0, size: int = 10) -> CheckpointFile:
    return CheckpointFile(path=path, bytes=size, sha256=hashlib.sha256(path.encode()).hexdigest(), node=node)


def part(node: int, ranks: tuple[int, ...], *paths: str, world: int = 4) -> NodePart:
    return NodePart(node=node, ranks=ranks, world_size=world, save_id="s", files=tuple(file(path, node) for path in paths))


def two_nodes() -> list[NodePart]:
    return [part(0, (0, 1), "__0_0.distcp", ".metadata", "__1_0.distcp"), part(1, (2, 3), "__3_0.distcp", "__2_0.distcp")]


def sealed(**changes: Any) -> tuple[bytes, bytes]:
    """COMMIT and manifest of a good checkpoint whose manifest says `changes`."""
    manifest = join(NAME, Meta(step=200), two_nodes(), created=1.0)
    data = json.dumps(json.loads(encode(manifest)) | changes).encode()
    return encode(commit_of(manifest, data, 2.0)), data


def test_the_parts_of_all_nodes_make_one_manifest_in_any_order() -> None:
    one, other = (join(NAME, Meta(step=200), parts, created=1.0) for parts in (two_nodes(), two_nodes()[::-1]))
    assert encode(one) == encode(other)
    assert [each.path for each in one.files] == [".metadata", "__0_0.distcp", "__1_0.distcp", "__2_0.distcp", "__3_0.distcp"]
    assert [each.node for each in one.files] == [0, 0, 0, 1, 1] and one.bytes == 50


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ([part(0, (0, 1), "a", ".metadata")], f"{TEXT} lacks the shards of ranks 2, 3"),
        ([part(0, (0, 1), "a", ".metadata"), part(1, (3,), "b")], f"{TEXT} lacks the shards of ranks 2"),
        ([part(0, (0, 1), "a", ".metadata"), part(1, (2, 3), "a")], f"{TEXT} has a file that two nodes wrote: a"),
        ([part(0, (0, 1), "a"), part(1, (2, 3), "b")], f"{TEXT} lacks .metadata, which rank 0 writes"),
    ],
    ids=["a node", "a rank", "a file twice", "the index"],
)
def test_parts_that_make_no_whole_are_refused(parts: list[NodePart], why: str) -> None:
    with pytest.raises(BadCheckpointError, match=f"^{why}$"):
        join(NAME, Meta(step=200), parts, created=1.0)


def test_an_engine_with_files_of_its_own_needs_no_index() -> None:
    parts = [part(0, (0, 1), "mp_rank_00.pt", world=2)]
    assert join(NAME, Meta(step=200, format="deepspeed"), parts, created=1.0).meta.format == "deepspeed"


def test_what_was_sealed_is_read_as_it_was_written() -> None:
    course = Course(seed=3, parts=(CourseDataset(digest="d", weight=0.7, key=1, before=5),), start=9)
    meta = Meta(step=200, consumed_samples=1600, mesh={"dp": 2}, course=course, ends=(2, 5), record={"task": "sft"}, global_size=8)  # type: ignore[call-arg]
    manifest = join(NAME, meta, two_nodes(), created=1.5)
    data = encode(manifest)
    found = read_manifest(TEXT, encode(commit_of(manifest, data, 2.5)), data)
    assert found == manifest
    assert found.meta.course == course and (found.meta.model_extra or {})["global_size"] == 8


def test_fields_of_a_later_version_are_passed_over() -> None:
    commit, data = sealed(flavour="new", files=[json.loads(encode(file(".metadata"))) | {"compressed": True}])
    commit = json.dumps(json.loads(commit) | {"witness": "x"}).encode()
    assert [each.path for each in read_manifest(TEXT, commit, data).files] == [".metadata"]


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"files": []},
        {"meta": {}},
        {"files": [{"path": "x", "bytes": -1, "sha256": "0" * 64, "node": 0}]},
        {"files": [{"path": "x", "bytes": 1, "sha256": "0" * 63, "node": 0}]},
        {"files": [{"path": "x", "bytes": 1, "sha256": "G" * 64, "node": 0}]},
        {"files": "x"},
    ],
    ids=["a later version", "no files", "no step", "a size below 0", "half a digest", "no digest", "no list"],
)
def test_a_manifest_that_means_something_else_is_bad_and_no_crash(changes: dict[str, Any]) -> None:
    with pytest.raises(BadCheckpointError, match=rf"^{TEXT} has a manifest.json or COMMIT that cannot be read: "):
        read_manifest(TEXT, *sealed(**changes))


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/b", "..", ".", "", "a\x00b", "a b", "..a", "-rf", "a\n"])
def test_a_manifest_cannot_name_a_file_outside_its_directory(path: str) -> None:
    with pytest.raises(ValidationError):
        file(path)


@pytest.mark.parametrize("path", [".metadata", "__0_0.distcp", "mp_rank_00_model_states.pt", "common.pt", "a-b.c"])
def test_the_names_that_engines_write_are_taken(path: str) -> None:
    assert file(path).path == path


def test_another_checkpoints_files_are_none_of_this_one() -> None:
    commit, data = sealed()
    with pytest.raises(BadCheckpointError, match=rf"^step-00000300-a0-r1 holds the manifest of {TEXT}$"):
        read_manifest("step-00000300-a0-r1", commit, data)
    of_another = json.dumps(json.loads(commit) | {"name": "step-00000300-a0-r1"}).encode()
    with pytest.raises(BadCheckpointError, match="holds the manifest of"):
        read_manifest(TEXT, of_another, data)


@given(st.data())
def test_one_changed_byte_of_a_manifest_is_never_believed(data: st.DataObject) -> None:
    commit, manifest = sealed()
    at = data.draw(st.integers(0, len(manifest) - 1))
    changed = bytearray(manifest)
    changed[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BadCheckpointError):
        read_manifest(TEXT, commit, bytes(changed))


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_noise_is_a_bad_checkpoint_and_no_crash(commit: bytes, manifest: bytes) -> None:
    good_commit, good = sealed()
    for pair in ((commit, good), (good_commit, manifest), (commit, manifest)):
        with pytest.raises(BadCheckpointError):
            read_manifest(TEXT, *pair)


def test_a_save_during_divergence_says_so_and_one_that_cannot_be_read_counts_as_one() -> None:
    for flag in (False, True):
        assert diverged(encode(join(NAME, Meta(step=200, diverged=flag), two_nodes(), created=1.0))) is flag
    assert diverged(b"{") and diverged(b"") and diverged(b'{"name": "x"}')


def test_a_commit_names_the_digest_of_the_very_bytes() -> None:
    manifest = join(NAME, Meta(step=200), two_nodes(), created=1.0)
    commit = commit_of(manifest, b"abc", 7.0)
    assert commit.manifest_sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert (commit.name, commit.committed_at, commit.signature) == (TEXT, 7.0, None)
    assert Commit.model_validate_json(encode(commit)) == commit


def test_what_is_stored_is_json_with_the_names_of_the_format() -> None:
    """Later versions read these names."""
    manifest: dict[str, Any] = json.loads(encode(join(NAME, Meta(step=200), two_nodes(), created=1.0)))
    assert manifest.keys() == {"version", "name", "saveId", "created", "meta", "files"}
    assert manifest["files"][0].keys() == {"path", "bytes", "sha256", "node"}
    assert json.loads(encode(two_nodes()[0])).keys() == {"node", "ranks", "worldSize", "saveId", "files"}
    assert Manifest.model_validate(manifest).name == TEXT


@given(st.lists(st.builds(Name, attempt=st.integers(0, 3), round=st.integers(0, 3), step=st.integers(0, 40)), min_size=2, max_size=6))
def test_age_is_by_attempt_then_round_then_step(names: list[Name]) -> None:
    assert sorted(names) == sorted(names, key=lambda name: (name.attempt, name.round, name.step))
