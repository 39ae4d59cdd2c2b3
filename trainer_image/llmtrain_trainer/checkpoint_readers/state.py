"""A CheckpointReader as a storage that torch.distributed.checkpoint loads from, which knows what each rank needs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch
from torch.distributed._shard._utils import narrow_tensor_by_index
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata, TensorProperties, TensorStorageMetadata
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner
from torch.distributed.checkpoint.storage import StorageReader
from torch.futures import Future

from llmtrain_trainer.checkpoint_readers.reader import MOMENTS, WEIGHT, CheckpointReader


class StateOf(StorageReader):
    """What NativeEngine.state_dict gives; a tensor is in memory at a time. A CheckpointReader without moments is read as one of zeros."""

    def __init__(self, source: CheckpointReader) -> None:
        self._source = source
        self._names = {key: (name, kind) for key, name, kind in _keys(source)}
        self._tensor = lru_cache(maxsize=1)(self._read)

    def read_metadata(self, *_arguments: Any, **_keywords: Any) -> Metadata:
        return Metadata({key: _described(self._shape(*named)) for key, named in self._names.items()})

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *_arguments: Any, **_keywords: Any) -> None:
        """There is nothing to set up."""

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Parts of one tensor follow each other."""
        for item in sorted(plan.items, key=lambda item: item.storage_index.fqn):
            whole = self._tensor(item.storage_index.fqn)
            target = planner.resolve_tensor(item).detach()
            target.copy_(narrow_tensor_by_index(whole, item.storage_offsets, item.lengths))
            planner.commit_tensor(item, target)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """There is one checkpoint."""

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:  # noqa: ARG003 - the name is the interface's
        return False

    def _shape(self, name: str, kind: str) -> torch.Size:
        return torch.Size([]) if kind == "step" else self._source.shapes[name]

    def _read(self, key: str) -> torch.Tensor:
        name, kind = self._names[key]
        if kind == "step":
            return torch.tensor(float(self._source.steps))
        if kind != WEIGHT and not self._source.steps:
            return torch.zeros(self._source.shapes[name])
        return self._source.read(name, kind)


def _keys(source: CheckpointReader) -> Iterator[tuple[str, str, str]]:
    """(key of the state, name of the weight, what of it)."""
    for name in source.shapes:
        yield f"model.{name}", name, WEIGHT
        for kind in (*MOMENTS, "step"):
            yield f"optimizer.{name}.{kind}", name, kind


def _described(shape: torch.Size) -> TensorStorageMetadata:
    """In one piece."""
    piece = ChunkStorageMetadata(offsets=torch.Size([0] * len(shape)), sizes=shape)
    return TensorStorageMetadata(properties=TensorProperties(dtype=torch.float32), size=shape, chunks=[piece])
