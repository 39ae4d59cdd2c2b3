"""What can be asked of a checkpoint, whoever wrote it. Implemented beside each format, used by engines and by convert."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch

WEIGHT = "fp32"
MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's moments of a weight: running means of its gradient and of the squared gradient."""


class CheckpointReader(Protocol):
    """Weights by the names of transformers' model: of a run with adapters those alone that were trained."""

    @property
    def shapes(self) -> Mapping[str, torch.Size]:
        """Shapes of the unsplit weights, by name."""
        ...

    @property
    def steps(self) -> int:
        """Optimizer steps made so far; 0 if there are no moments."""
        ...

    def read(self, name: str, key: str = WEIGHT) -> torch.Tensor:
        """The unsplit weight [*shapes[name]], or the moment of it that `key` names, in fp32 on the CPU. Raises KeyError."""
        ...
