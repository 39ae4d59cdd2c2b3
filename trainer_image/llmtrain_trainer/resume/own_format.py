"""Whether an engine reads a checkpoint by itself, or takes it over as one of another engine's. Pure."""

from __future__ import annotations

from llmtrain_trainer.checkpoint.manifest import Meta
from llmtrain_trainer.config import Mesh, TrainerConfig

FORMATS = {"native": "dcp", "deepspeed": "deepspeed", "megatron": "megatron"}
"""What each engine writes."""


def reads_itself(meta: Meta, config: TrainerConfig) -> bool:
    """Of its own format every engine reads any layout. But Megatron writes other files for an optimizer that is shared out than for one
    that is whole, and of a whole one it counts the weights by the expert degree.
    """
    if meta.format != FORMATS[config.engine]:
        return False
    if config.engine != "megatron":
        return True
    before, now = Mesh.model_validate(meta.mesh), config.mesh
    return before.zero_stage == now.zero_stage and (now.zero_stage > 0 or before.ep == now.ep)
