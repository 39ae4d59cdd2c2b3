"""Any part of any tensor of a checkpoint that torch.distributed.checkpoint wrote, without the rest. For files of native and Megatron."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.distributed._shard._utils import narrow_tensor_by_index
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, ReadItem
from torch.distributed.checkpoint.planner_helpers import create_read_items_for_chunk_list

from llmtrain_trainer.checkpoint_readers.index import IndexReader, read_index


class ShardReader:
    """Reads in one process what any number of ranks wrote."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._metadata = read_index(directory)
        self.shapes: dict[str, torch.Size] = {
            key: found.size for key, found in self._metadata.state_dict_metadata.items() if isinstance(found, TensorStorageMetadata)
        }

    def read(self, key: str, at: Sequence[int] = ()) -> torch.Tensor:
        """The tensor at the index `at` of its first dimensions: all of it where `at` is empty."""
        found = self._metadata.state_dict_metadata[key]
        assert isinstance(found, TensorStorageMetadata)
        whole = (*(1 for _ in at), *found.size[len(at) :])
        offsets = (*at, *(0 for _ in found.size[len(at) :]))
        into = torch.empty(whole, dtype=found.properties.dtype)
        chunk = ChunkStorageMetadata(offsets=torch.Size(offsets), sizes=torch.Size(whole))
        reader = IndexReader(self._directory)
        reader.set_up_storage_reader(self._metadata, is_coordinator=True)
        plan = reader.prepare_local_plan(LoadPlan(create_read_items_for_chunk_list(key, found, [chunk])))
        reader.read_data(plan, _Into(into)).wait()
        return into.reshape(found.size[len(at) :])


class _Into(LoadPlanner):
    """Lays what is read into one tensor."""

    def __init__(self, target: torch.Tensor) -> None:
        self._target = target

    def resolve_tensor(self, read_item: ReadItem) -> torch.Tensor:
        return narrow_tensor_by_index(self._target, read_item.dest_offsets, read_item.lengths)

    def commit_tensor(self, read_item: ReadItem, tensor: torch.Tensor) -> None:
        """It was read in place."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:  # noqa: ARG002 - the name is the interface's
        raise TypeError(f"{read_item.storage_index.fqn} is no tensor")

    def set_up_planner(self, state_dict: Any, metadata: Metadata | None = None, is_coordinator: bool = False) -> None:
        """The plan is made by the caller."""

    def create_local_plan(self) -> LoadPlan:
        return LoadPlan([])

    def create_global_plan(self, global_plan: list[LoadPlan]) -> list[LoadPlan]:
        return global_plan

    def finish_plan(self, central_plan: LoadPlan) -> LoadPlan:
        return central_plan
