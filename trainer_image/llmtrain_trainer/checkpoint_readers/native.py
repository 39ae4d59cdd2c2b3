"""Checkpoints of engine native: DCP, which knows no layout."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from llmtrain_trainer.checkpoint.manifest import METADATA
from llmtrain_trainer.checkpoint_readers.parts import ShardReader
from llmtrain_trainer.checkpoint_readers.reader import WEIGHT
from llmtrain_trainer.data.bad_data import BadData


class Native:
    """A CheckpointReader."""

    def __init__(self, directory: Path, _network: nn.Module) -> None:
        """Raises BadData where DCP's own index is missing."""
        if not (directory / METADATA).exists():
            raise BadData("checkpoint", directory.name, f"it has no {METADATA}", "Give another one")
        self._parts = ShardReader(directory)
        self.shapes = {key.removeprefix("model."): shape for key, shape in self._parts.shapes.items() if key.startswith("model.")}
        counts = [key for key in self._parts.shapes if key.startswith("optimizer.") and key.endswith(".step")]
        self.steps = int(self._parts.read(counts[0]).item()) if counts else 0

    def read(self, name: str, key: str = WEIGHT) -> torch.Tensor:
        return self._parts.read(f"model.{name}" if key == WEIGHT else f"optimizer.{name}.{key}").float()
