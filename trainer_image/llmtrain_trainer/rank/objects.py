"""Restricts the objects that ranks may send each other: torch's object collectives unpickle any class, and here it must be listed.

Our own code sends JSON (rendezvous/tell_all.py). DCP, Megatron and DeepSpeed send objects: plans of a save or a load, their results, and
failures of ranks. Call `restrict` before a rank joins the others.
"""

from __future__ import annotations

import builtins
import enum
import io
import pickle
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch.distributed import distributed_c10d

from llmtrain_trainer.checkpoint.pickles import INDEX_NAMES

_MORE: Mapping[str, Collection[str]] = {
    "traceback": {"FrameSummary", "StackSummary"},
    "torch._utils": {"_rebuild_tensor_v2"},
    "torch.distributed.checkpoint.filesystem": {"_StoragePrefix"},
    "torch.distributed.checkpoint.planner": {
        "BytesIOWriteData", "LoadItemType", "LoadPlan", "ReadItem", "SavePlan", "TensorWriteData", "WriteItem", "WriteItemType",
    },
    "torch.distributed.checkpoint.storage": {"WriteResult"},
    "megatron.core.dist_checkpointing.mapping": {"ShardedObject", "ShardedTensor"},
}  # fmt: skip

NAMES = {module: frozenset(INDEX_NAMES.get(module, ())) | frozenset(_MORE.get(module, ())) for module in (*INDEX_NAMES, *_MORE)}
"""Module -> classes and functions that only build data."""

_BYTES_OF_TENSORS = ("torch.storage", "_load_from_bytes")
"""How a tensor's bytes travel: torch reads them by another pickle without restriction, so they are read by one with."""


class ForeignError(RuntimeError):
    """An object from another rank names a class that ranks never send; unpickling it could run the sender's code."""


class SentFailure(Exception):  # noqa: N818 - stands for whatever was raised elsewhere
    """An exception of another rank whose class is not listed: its arguments, and nothing of its class."""


def restrict() -> None:
    """Let torch's collectives of objects build only what NAMES lists. Raises RuntimeError for a torch that reads objects another way."""
    if not issubclass(getattr(distributed_c10d, "_unpickler", object), pickle.Unpickler):
        raise RuntimeError(
            f"torch {torch.__version__} reads objects of other ranks in a way that llmtrain does not know to restrict: use the pinned torch"
        )
    distributed_c10d._unpickler = Listed


class Listed(pickle.Unpickler):
    """Raises ForeignError for a name outside NAMES."""

    def find_class(self, module: str, name: str) -> Any:
        """Only the classes in NAMES, and exceptions. Raises ForeignError for all others."""
        if (module, name) == _BYTES_OF_TENSORS:
            return _tensor_bytes
        if (module, name) == ("builtins", "getattr"):  # Python 3.11.0 to 3.11.3 writes members of enumerations so
            return _member
        if name in NAMES.get(module, ()):
            return super().find_class(module, name)
        if module == "builtins" and _is_exception(getattr(builtins, name, None)):
            return getattr(builtins, name)
        if name.endswith(("Error", "Exception")) and name.isidentifier():
            return type(name, (SentFailure,), {"__module__": module})
        raise ForeignError(
            f"another rank sent an object that names {module}.{name}, which ranks of one job never send: it was not read"[:300]
        )


def _is_exception(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, BaseException)


def _tensor_bytes(data: bytes) -> Any:
    return torch.load(io.BytesIO(data), weights_only=True)


def _member(owner: Any, name: Any) -> Any:
    """In place of getattr: a member of a listed enumeration, and nothing else."""
    if not (isinstance(owner, type) and issubclass(owner, enum.Enum) and name in owner.__members__):
        raise ForeignError("another rank sent a look-up of a name, which ranks of one job never send: it was not read")
    return owner.__members__[name]
