"""The engines: the Protocol (engine.py), one package per engine, and facts about each engine without importing it (registry.py)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llmtrain_trainer.engines.registry import ENGINES, imported
from llmtrain_trainer.objectives import OBJECTIVES

if TYPE_CHECKING:
    from llmtrain_trainer.config import TrainerConfig
    from llmtrain_trainer.engines.engine import Engine


def build_engine(config: TrainerConfig, model_dir: Path) -> Engine:
    """The engine that config.engine names, with its weights in place. Collective over all ranks; call after init_process_group.

    model_dir holds config.json and, for a pretrained model, *.safetensors. Raises ValueError where the model does not fit the mesh,
    and for an objective that needs a second model.
    """
    if OBJECTIVES[config.task].needs_reference:
        raise ValueError(f"task is {config.task}, whose loss compares with the model that training started from, but an engine holds one")
    engine: Engine = imported(ENGINES[config.engine].builder)(config, model_dir)
    return engine
