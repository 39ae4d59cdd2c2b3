"""Whole weights out of the files of engine deepspeed. Used by sources.py."""

from __future__ import annotations

from pathlib import Path

import torch

from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.engines.deepspeed.files import Files
from llmtrain_trainer.parallel.assemble import skeleton


class DeepSpeed:
    """A Source."""

    def __init__(self, config: TrainerConfig, directory: Path, model_dir: Path) -> None:
        """`config`: says what the model is. Raises BadData where the weights are another's."""
        found = Files(directory).weights
        expected = {name: weight.shape for name, weight in skeleton(config, model_dir).named_parameters()}
        self._weights = {name: found[name] for name in expected if name in found}
        self.shapes = {name: weight.shape for name, weight in self._weights.items()}
        missing = next((name for name in expected if name not in found), None)
        if missing and config.peft is None:
            raise _another(f"the checkpoint does not hold its {missing}")
        for name, shape in self.shapes.items():
            if shape != expected[name]:
                raise _another(f"its {name} is {list(expected[name])}, and the checkpoint's is {list(shape)}")

    def take(self, name: str) -> torch.Tensor:
        """In fp32, on the CPU."""
        return self._weights[name].read()


def _another(rule: str) -> BadData:
    return BadData("spec.model", "another one than the checkpoint's", rule, "Give the manifest of the job that wrote the checkpoint")
