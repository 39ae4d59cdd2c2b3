"""The engines by name. Called by the rank's loop once the process group stands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmtrain_trainer.config import TrainerConfig
    from llmtrain_trainer.engines.engine import Engine

AVAILABLE = ("native",)


def build_engine(config: TrainerConfig, model_dir: Path) -> Engine:
    """The engine that config.engine names, with its weights in place. Collective over all ranks; call after init_process_group.

    model_dir holds config.json and, for a pretrained model, *.safetensors. Raises ValueError for an engine that is not built, and
    where the model does not fit the mesh.
    """
    if config.engine not in AVAILABLE:
        raise ValueError(f"engine is {config.engine}, but this version has {', '.join(AVAILABLE)}: use one of them")
    # Imported here: whoever only wants the Protocol's values must not pay seconds for torch and transformers.
    from llmtrain_trainer.engines.native import NativeEngine

    return NativeEngine(config, model_dir)
