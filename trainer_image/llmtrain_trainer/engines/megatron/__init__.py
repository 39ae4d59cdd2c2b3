"""Engine `megatron`: megatron-core's GPTModel, parallel layers, schedules and optimizer behind the Protocol of engines/engine.py.

What Megatron computes is the same model from the same start: weights come from Hugging Face names (weights.py), the loss is a sum over
the global batch's targets, and rows go to replicas as in every engine. docs/engines.md says what is tested where.
"""

from __future__ import annotations

from pathlib import Path

from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.engines.megatron.engine import MegatronEngine


def build(config: TrainerConfig, model_dir: Path) -> MegatronEngine:
    """The engine with its weights in place. Collective; see engines/__init__.py."""
    return MegatronEngine(config, model_dir)
