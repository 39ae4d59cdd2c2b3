"""No code of a checkpoint runs, whoever sealed it, wherever it is read."""

from __future__ import annotations

import collections
import enum
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils.tensor_fragment import fragment_address
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import BytesStorageMetadata

from llmtrain_trainer.checkpoint.manifest import COMMIT, MANIFEST, CheckpointFile, Manifest, Meta, commit_of, encode
from llmtrain_trainer.checkpoint.pickles import refuse_code
from llmtrain_trainer.checkpoint.restore import choose, fetch, find, verify
from llmtrain_trainer.checkpoint.signature import KEY
from llmtrain_trainer.checkpoint.store.errors import BadCheckpointError
from llmtrain_trainer.checkpoint.store.file_store import FileStore
from llmtrain_trainer.checkpoint.store.store import digest_file
from llmtrain_trainer.checkpoint_readers.index import IndexReader, TensorPlanner
from llmtrain_trainer.engines.deepspeed.files import _open

NAME = "step-00000010-a1-r1"
STATE = {
    "model": {"a": torch.arange(12.0).reshape(3, 4), "b": torch.ones(5, dtype=torch.bfloat16)},
    "optimizer": {"a.step": torch.tensor(7.0)},
}


class Payload:
    """Runs when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._canary),)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "the payload ran"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A checkpoint as engine native writes it, not sealed yet."""
    place = tmp_path / "store" / NAME
    dcp.save(STATE, checkpoint_id=str(place), no_dist=True)
    return place


def seal(directory: Path, file_format: str = "dcp") -> FileStore:
    """What whoever can write to the store does: compute every digest anew."""
    for name in (MANIFEST, COMMIT):
        (directory / name).unlink(missing_ok=True)
    held = [(path.name, digest_file(path)) for path in sorted(directory.iterdir())]
    files = tuple(CheckpointFile(path=path, bytes=digest.bytes, sha256=digest.sha256, node=0) for path, digest in held)
    manifest = Manifest(name=directory.name, save_id="s", created=0.0, meta=Meta(step=10, format=file_format), files=files)
    (directory / MANIFEST).write_bytes(encode(manifest))
    (directory / COMMIT).write_bytes(encode(commit_of(manifest, encode(manifest), 0.0)))
    return FileStore(directory.parent)


def test_what_the_engine_wrote_is_read_as_it_was(directory: Path, tmp_path: Path) -> None:
    store = seal(directory)
    fetched = fetch(verify(find(store, NAME), store), store, tmp_path / "restore")
    empty = {part: {key: torch.zeros_like(value) for key, value in held.items()} for part, held in STATE.items()}
    dcp.load(empty, storage_reader=IndexReader(fetched), planner=TensorPlanner(), no_dist=True)
    for part, held in STATE.items():
        for key, value in held.items():
            assert torch.equal(empty[part][key], value)


class WithGetattr(pickle.Pickler):
    """Writes members of enumerations as Python 3.11.0 to 3.11.3 does."""

    def reducer_override(self, given: Any) -> Any:
        return (getattr, (type(given), given.name)) if isinstance(given, enum.Enum) else NotImplemented


def with_getattr(given: Any) -> bytes:
    packed = io.BytesIO()
    WithGetattr(packed).dump(given)
    return packed.getvalue()


def test_an_index_that_an_older_python_wrote_is_read(directory: Path, tmp_path: Path) -> None:
    index = pickle.loads((directory / ".metadata").read_bytes())
    (directory / ".metadata").write_bytes(with_getattr(index))
    assert b"getattr" in (directory / ".metadata").read_bytes()
    test_what_the_engine_wrote_is_read_as_it_was(directory, tmp_path)


def test_a_file_of_torch_that_an_older_python_wrote_is_read(tmp_path: Path) -> None:
    class Pickle:
        Pickler, dump, dumps = WithGetattr, staticmethod(pickle.dump), staticmethod(pickle.dumps)

    torch.save({"stage": ZeroStageEnum.weights, "w": torch.ones(2)}, tmp_path / "mp_rank_00_model_states.pt", pickle_module=Pickle)
    assert b"getattr" in (tmp_path / "mp_rank_00_model_states.pt").read_bytes()
    refuse_code(tmp_path, ["mp_rank_00_model_states.pt"])
    assert _open(str(tmp_path / "mp_rank_00_model_states.pt"))["stage"] is ZeroStageEnum.weights


def by_getattr_of_another_class(directory: Path, canary: Path) -> None:
    (directory / ".metadata").write_bytes(b"\x80\x02cbuiltins\ngetattr\n(ctorch\nSize\nV__init__\ntR.")


def in_index(directory: Path, canary: Path) -> None:
    (directory / ".metadata").write_bytes(pickle.dumps(Payload(canary)))


def beside_a_whole_index(directory: Path, canary: Path) -> None:
    index = pickle.loads((directory / ".metadata").read_bytes())
    index.planner_data = Payload(canary)
    (directory / ".metadata").write_bytes(pickle.dumps(index))


def in_the_index_of_a_rank(directory: Path, canary: Path) -> None:
    (directory / "__0.metadata").write_bytes(pickle.dumps(Payload(canary)))


def as_an_object_of_the_index(directory: Path, canary: Path) -> None:
    """DCP's own planner loads what an index calls bytes without any restriction."""
    index = pickle.loads((directory / ".metadata").read_bytes())
    index.state_dict_metadata["model.a"] = BytesStorageMetadata()
    place = next(place for place in index.storage_data if place.fqn == "model.a")
    packed = io.BytesIO()
    torch.save(Payload(canary), packed)
    extent = index.storage_data[place]
    extent.relative_path, extent.offset, extent.length = "__9_0.distcp", 0, len(packed.getvalue())
    (directory / "__9_0.distcp").write_bytes(packed.getvalue())
    (directory / ".metadata").write_bytes(pickle.dumps(index))


def by_a_path_outside(directory: Path, canary: Path) -> None:
    index = pickle.loads((directory / ".metadata").read_bytes())
    for extent in index.storage_data.values():
        extent.relative_path = "../../elsewhere.distcp"
    (directory / ".metadata").write_bytes(pickle.dumps(index))


def by_a_class_of_torch_that_runs(directory: Path, canary: Path) -> None:
    """Nothing but names of torch, and still a program."""
    text = f"ctorch.hub\nload\n(V{canary}\nVx\ntR.".encode()
    (directory / ".metadata").write_bytes(b"\x80\x02" + text)


def by_building_a_class(directory: Path, canary: Path) -> None:
    """Sets an attribute of a class that is listed."""
    (directory / ".metadata").write_bytes(b"\x80\x02ctorch\nSize\n(N}V__call__\nV1\nstb.")


def without_any_pickle(directory: Path, canary: Path) -> None:
    (directory / ".metadata").write_bytes(b"no pickle at all")


@pytest.mark.parametrize(
    "put",
    [
        in_index, beside_a_whole_index, in_the_index_of_a_rank, as_an_object_of_the_index, by_a_path_outside,
        by_a_class_of_torch_that_runs, by_getattr_of_another_class, by_building_a_class, without_any_pickle,
    ],
)  # fmt: skip
def test_a_sealed_index_that_holds_more_than_tensors_is_refused_everywhere(
    directory: Path, tmp_path: Path, canary: Path, put: Callable[[Path, Path], None]
) -> None:
    put(directory, canary)
    store = seal(directory)
    for act in (lambda: verify(find(store, NAME), store), lambda: fetch(find(store, NAME), store, tmp_path / "restore")):
        with pytest.raises(BadCheckpointError, match=f"{NAME}/"):
            act()
    assert not canary.exists()


def test_the_reader_of_ranks_refuses_by_itself(directory: Path, canary: Path) -> None:
    as_an_object_of_the_index(directory, canary)
    empty = {"model": {"a": torch.zeros(3, 4)}}
    with pytest.raises(CheckpointException, match="an object, where a tensor belongs"):
        dcp.load(empty, storage_reader=IndexReader(directory), planner=TensorPlanner(), no_dist=True)
    assert not canary.exists()


def test_an_index_is_copied_so_that_nobody_changes_it_after_it_was_looked_into(directory: Path, tmp_path: Path) -> None:
    store = seal(directory)
    fetched = fetch(find(store, NAME), store, tmp_path / "restore")
    assert not (fetched / ".metadata").is_symlink() and (fetched / ".metadata").stat().st_nlink == 1


def of_deepspeed(path: Path) -> None:
    torch.save(
        {
            "module": collections.OrderedDict(a=torch.ones(3)),
            "param_shapes": [collections.OrderedDict(a=torch.Size([3]))],
            "param_slice_mappings": [collections.OrderedDict(a=fragment_address(numel=3, start=0))],
            "llmtrain": [("a", None, "a")],
        },
        path,
    )


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A file of torch.save, as DeepSpeed and Megatron write theirs."""
    place = tmp_path / "store" / NAME
    place.mkdir(parents=True)
    of_deepspeed(place / "mp_rank_00_model_states.pt")
    return place / "mp_rank_00_model_states.pt"


def test_files_as_deepspeed_writes_them_are_taken_and_read(archive: Path) -> None:
    store = seal(archive.parent, "deepspeed")
    assert verify(find(store, NAME), store).verified
    assert _open(str(archive))["param_slice_mappings"][0]["a"].numel == 3


def payload_among_the_values(archive: Path, canary: Path) -> None:
    held = torch.load(archive, weights_only=False)
    torch.save({**held, "zz": Payload(canary)}, archive)


def payload_alone(archive: Path, canary: Path) -> None:
    torch.save(Payload(canary), archive)


def payload_in_the_old_format(archive: Path, canary: Path) -> None:
    torch.save({"zz": Payload(canary)}, archive, _use_new_zipfile_serialization=False)


def bare_pickle(archive: Path, canary: Path) -> None:
    archive.write_bytes(pickle.dumps(Payload(canary)))


def compressed(archive: Path, canary: Path) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("archive/data.pkl", pickle.dumps(Payload(canary)))


@pytest.mark.parametrize("put", [payload_among_the_values, payload_alone, payload_in_the_old_format, bare_pickle, compressed])
@pytest.mark.parametrize("name", ["mp_rank_00_model_states.pt", "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt", "common.pt"])
def test_a_sealed_file_of_torch_that_names_more_is_refused_everywhere(
    archive: Path, tmp_path: Path, canary: Path, name: str, put: Callable[[Path, Path], None]
) -> None:
    put(archive, canary)
    archive = archive.rename(archive.with_name(name))
    store = seal(archive.parent, "deepspeed")
    for act in (
        lambda: verify(find(store, NAME), store),
        lambda: fetch(find(store, NAME), store, tmp_path / "restore"),
        lambda: _open(str(archive)),
    ):
        with pytest.raises((BadCheckpointError, pickle.UnpicklingError, RuntimeError)):
            act()
    assert not canary.exists()


def test_a_sealed_payload_is_passed_over_for_the_checkpoint_before_it(directory: Path, tmp_path: Path, canary: Path) -> None:
    store = seal(directory)
    newer = directory.with_name("step-00000020-a1-r1")
    dcp.save(STATE, checkpoint_id=str(newer), no_dist=True)
    in_index(newer, canary)
    seal(newer)
    events: list[dict[str, Any]] = []
    found = choose(store, "latest", events.append, into=tmp_path / "restore")
    assert found is not None and str(found.name) == NAME
    assert "names posix.mkdir" in events[0]["message"] and not canary.exists()


def test_with_a_key_only_what_is_signed_with_it_is_loaded(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = seal(directory)
    monkeypatch.setenv(KEY, "a secret")
    with pytest.raises(BadCheckpointError, match="is not signed with the key"):
        verify(find(store, NAME), store)
    seal(directory)
    assert verify(find(store, NAME), store).verified
    monkeypatch.setenv(KEY, "another")
    with pytest.raises(BadCheckpointError, match="signed with another key"):
        verify(find(store, NAME), store)
    monkeypatch.delenv(KEY)
    assert verify(find(store, NAME), store).verified, "without a key a signature is nothing to compare"


def test_the_signature_covers_the_manifest(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "a secret")
    store = seal(directory)
    commit, manifest = (
        json.loads((directory / COMMIT).read_text()),
        (directory / MANIFEST).read_bytes().replace(b'"step": 10', b'"step": 11'),
    )
    changed = Manifest.model_validate_json(manifest)
    again = json.loads(encode(commit_of(changed, manifest, 0.0)))
    (directory / MANIFEST).write_bytes(manifest)
    (directory / COMMIT).write_text(json.dumps({**again, "signature": commit["signature"]}))
    with pytest.raises(BadCheckpointError, match="signed with another key"):
        verify(find(store, NAME), store)


def test_names_of_classes_are_found_in_every_protocol(tmp_path: Path) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / ".metadata").write_bytes(pickle.dumps(os.system, protocol=protocol))
        with pytest.raises(BadCheckpointError, match=r"posix\.system"):
            refuse_code(tmp_path, [".metadata"])


@pytest.mark.parametrize("path", ["..", ".", "...", "..a", "../a", "/etc/passwd", "a/b", "a\\..\\b/", "", "-a", "a\n"])
def test_a_manifest_names_files_of_its_own_directory_alone(path: str) -> None:
    with pytest.raises(ValueError, match="path"):
        CheckpointFile(path=path, bytes=0, sha256="0" * 64, node=0)
