"""Whole weights on rank 0, one by one, for exports."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor


class AccelerateGatherer:
    """The weights of engine accelerate, of DDP or FSDP2."""

    def __init__(self, held: Mapping[str, torch.Tensor]) -> None:
        self._held = held
        self.shapes: dict[str, torch.Size] = {name: weight.shape for name, weight in held.items()}

    def read(self, name: str) -> torch.Tensor | None:
        """The unsplit weight in fp32 on rank 0's CPU; None on the others. Collective."""
        weight = self._held[name].detach()
        whole = weight.full_tensor() if isinstance(weight, DTensor) else weight
        return whole.float().contiguous().cpu() if dist.get_rank() == 0 else None
