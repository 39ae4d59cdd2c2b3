"""Facts about each engine that are needed before it is imported, so that no run imports, or needs installed, another engine's libraries."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llmtrain_trainer.config import EngineName, Mesh
from llmtrain_trainer.config.tables.engines import ENGINE_FACTS


def _same_optimizer(before: Mesh, now: Mesh) -> bool:
    """Megatron writes other files for an optimizer that is sharded than for one that is whole, and of a whole one it counts the weights by
    the expert degree."""
    return before.zero_stage == now.zero_stage and (now.zero_stage > 0 or before.ep == now.ep)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineEntry:
    """One engine, as the trainer sees it."""

    builder: str
    """module:callable, called with a TrainerConfig and the model's directory; gives an Engine."""

    reader: str
    """module:class, called with a directory and the model; gives the CheckpointReader of a checkpoint in the engine's format."""

    reads_layout: Callable[[Mesh, Mesh], bool] | None = None
    """Whether a run with the second mesh reads a checkpoint that the engine wrote with the first; None: always."""

    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of every rank."""

    @property
    def module(self) -> str:
        """Imported by the server that ranks fork from, before the first fork."""
        return self.builder.partition(":")[0]


ENGINES: Mapping[EngineName, EngineEntry] = {
    "native": EngineEntry(
        builder="llmtrain_trainer.engines.native.engine:NativeEngine",
        reader="llmtrain_trainer.checkpoint_readers.native:Native",
    ),
    "deepspeed": EngineEntry(
        builder="llmtrain_trainer.engines.deepspeed:DeepSpeedEngine",
        reader="llmtrain_trainer.engines.deepspeed.files:DeepSpeedReader",
    ),
    "megatron": EngineEntry(
        builder="llmtrain_trainer.engines.megatron:build",
        reader="llmtrain_trainer.engines.megatron.files:MegatronReader",
        reads_layout=_same_optimizer,
        # It overlaps an exchange with the product after it by starting the exchange first: one queue keeps their order.
        environment={"CUDA_DEVICE_MAX_CONNECTIONS": "1"},
    ),
    "accelerate": EngineEntry(
        builder="llmtrain_trainer.engines.accelerate:AccelerateEngine",
        reader="llmtrain_trainer.checkpoint_readers.native:Native",
    ),
}

READERS: Mapping[str, str] = {ENGINE_FACTS[name].checkpoint_format: entry.reader for name, entry in ENGINES.items()}
"""The readers by format of the checkpoint."""


def imported(path: str) -> Any:
    """The object that module:name refers to."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
