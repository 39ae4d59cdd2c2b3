"""What can be asked of a checkpoint, whoever wrote it. Implemented beside each format, used by engines and by convert."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch

WEIGHT = "fp32"
MOMENTS = ("exp_avg", "exp_avg_sq")
"""What AdamW keeps of a weight: running means of its gradient and of the gradient's square."""


class CheckpointReader(Protocol):
    """Weights by the names of transformers' model: of a run with adapters those alone that were trained."""

    @property
    def shapes(self) -> Mapping[str, torch.Size]:
        """Of whole weights."""
        ...

    @property
    def steps(self) -> int:
        """That the optimizer has made; 0: there are no moments."""
        ...

    def take(self, name: str, key: str = WEIGHT) -> torch.Tensor:
        """A whole weight, or a moment of it, in fp32 on the CPU. Raises KeyError where it is not there."""
        ...
