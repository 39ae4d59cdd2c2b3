"""DCP's index and files, read without unpickling: the index is built from inert records, and an entry that is no tensor is refused."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader, _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import ReadItem

from llmtrain_trainer.checkpoint.pickles import Record, load_index
from llmtrain_trainer.checkpoint.store.errors import BadCheckpointError


class IndexReader(FileSystemReader):
    """A FileSystemReader that never unpickles an index. Raises BadCheckpointError where it holds anything but tensors of its own files."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._directory = directory

    def read_metadata(self, *_args: Any, **_keywords: Any) -> Metadata:
        """Of the whole checkpoint; there is none of a rank."""
        found = read_index(self._directory)
        found.storage_meta = StorageMeta(load_id=self.load_id)
        return found


class TensorPlanner(DefaultLoadPlanner):
    """Loads tensors; an object would be a pickle."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:  # noqa: ARG002 - the name is the interface's
        raise BadCheckpointError(f"{read_item.storage_index.fqn} is an object, where a tensor belongs")


def read_index(directory: Path) -> Metadata:
    """The index of a checkpoint in `directory`. Raises BadCheckpointError."""
    path = directory / ".metadata"
    record = load_index(path)
    try:
        state = record.state
        return Metadata(
            state_dict_metadata={key: _tensor(found) for key, found in state["state_dict_metadata"].items()},
            planner_data=None,
            storage_data={_place(key): _extent(found, directory) for key, found in state["storage_data"].items()},
        )
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise BadCheckpointError(f"{directory.name}/{path.name} is no index of tensors: {type(error).__name__}: {error}") from error


def _tensor(record: Record) -> TensorStorageMetadata:
    if record.named != "TensorStorageMetadata":
        raise ValueError("an entry is an object, where a tensor belongs")
    state = record.state
    return TensorStorageMetadata(
        properties=TensorProperties(dtype=_dtype(state["properties"])), size=_size(state["size"]), chunks=[*map(_chunk, state["chunks"])]
    )


def _dtype(properties: Record) -> torch.dtype:
    """The first field of TensorProperties; its state is a tuple."""
    found = getattr(torch, properties.state[0].named)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"{properties.state[0].named} is no type of tensors")
    return found


def _chunk(record: Record) -> ChunkStorageMetadata:
    return ChunkStorageMetadata(offsets=_size(record.state["offsets"]), sizes=_size(record.state["sizes"]))


def _place(record: Record) -> MetadataIndex:
    state: Mapping[str, Any] = record.state
    offset = state.get("offset")
    return MetadataIndex(str(state["fqn"]), None if offset is None else _size(offset), state.get("index"))


def _extent(record: Record, directory: Path) -> _StorageInfo:
    state: Mapping[str, Any] = record.state
    path, offset, length = str(state["relative_path"]), int(state["offset"]), int(state["length"])
    if Path(path).name != path or offset < 0 or not 0 <= offset + length <= (directory / path).stat().st_size:
        raise ValueError(f"it points to {path} from byte {offset} on for {length}")
    return _StorageInfo(path, offset, length)


def _size(record: Record) -> torch.Size:
    """torch.Size is written as a call of its class with one tuple of ints."""
    return torch.Size([int(length) for length in record.args[0]])
