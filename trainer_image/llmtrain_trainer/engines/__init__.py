"""The engines by name."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmtrain_trainer.config import TrainerConfig
    from llmtrain_trainer.engines.engine import Engine

BUILDERS = {
    "native": "llmtrain_trainer.engines.native.engine:NativeEngine",
    "deepspeed": "llmtrain_trainer.engines.deepspeed:DeepSpeedEngine",
    "megatron": "llmtrain_trainer.engines.megatron:build",
}
"""module:callable of each engine, imported when it is asked for: nobody pays for, or needs installed, what another engine imports."""


def build_engine(config: TrainerConfig, model_dir: Path) -> Engine:
    """The engine that config.engine names, with its weights in place. Collective over all ranks; call after init_process_group.

    model_dir holds config.json and, for a pretrained model, *.safetensors. Raises ValueError for an engine that is not built, and
    where the model does not fit the mesh.
    """
    if config.engine not in BUILDERS:
        raise ValueError(f"engine is {config.engine}, but this version has {', '.join(BUILDERS)}: use one of them")
    module, _, builder = BUILDERS[config.engine].partition(":")
    engine: Engine = getattr(importlib.import_module(module), builder)(config, model_dir)
    return engine
