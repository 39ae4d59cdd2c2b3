"""Whether an engine reads a checkpoint itself, or takes it over as that of another engine. Pure."""

from __future__ import annotations

from llmtrain_trainer.checkpoint.manifest import Meta
from llmtrain_trainer.config import Mesh, TrainerConfig
from llmtrain_trainer.config.tables.engines import ENGINE_FACTS
from llmtrain_trainer.engines.registry import ENGINES


def is_own_format(meta: Meta, config: TrainerConfig) -> bool:
    """Whether the checkpoint has the engine's format and a layout that the engine reads."""
    if meta.format != ENGINE_FACTS[config.engine].checkpoint_format:
        return False
    reads = ENGINES[config.engine].reads_layout
    return reads is None or reads(Mesh.model_validate(meta.mesh), config.mesh)
