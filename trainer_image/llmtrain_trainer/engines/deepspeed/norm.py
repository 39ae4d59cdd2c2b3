"""Gradient norm and clipping without ZeRO, where DeepSpeed would use the norm of one stage; and a guard against updates that are not
finite with ZeRO."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from llmtrain_trainer.engines.deepspeed.place import DeepSpeedRank
from llmtrain_trainer.engines.native.gradients import clip

Loss = Callable[[], torch.Tensor]
"""This rank's part of the step's loss, once all micro-batches are through; a scalar."""


class Clipper:
    """A hook before the optimizer's step, when every gradient is complete."""

    def __init__(
        self,
        place: DeepSpeedRank,
        weights: Mapping[str, nn.Parameter],
        cut: Mapping[str, int],
        again: frozenset[str],
        limit: float,
        loss: Loss,
    ) -> None:
        """`again`: names that an earlier stage holds too. `limit`: largest norm; 0 clips nothing."""
        first = place.dp_rank == 0
        self._trained = [weight for weight in weights.values() if weight.requires_grad]
        self._counted = [
            weight
            for name, weight in weights.items()
            if weight.requires_grad and first and name not in again and (name in cut or place.tp_rank == 0)
        ]
        self._device, self._limit, self._loss, self.norm = place.device, limit, loss, 0.0

    def begin(self) -> None:
        """A step begins."""

    def __call__(self, _optimizer: torch.optim.Optimizer, _arguments: Any, _keywords: Any) -> None:
        """Collective. Measure the norm of the whole model, then clip. Where norm or loss is not finite, nothing is left for the
        optimizer to do."""
        squares = torch.zeros((), dtype=torch.float64, device=self._device)
        gradients = [weight.grad for weight in self._counted if weight.grad is not None]
        if gradients:
            squares += torch.stack(torch._foreach_norm(gradients)).double().square().sum()
        both = torch.stack([squares, self._loss().double()])
        dist.all_reduce(both)
        square, loss = both.tolist()
        self.norm = square**0.5
        if not (math.isfinite(self.norm) and math.isfinite(loss)):
            for weight in self._trained:
                weight.grad = None
            return
        clip([weight.grad for weight in self._trained if weight.grad is not None], self.norm, self._limit)


class Guard:
    """Hung around the optimizer's step under ZeRO, which in bf16 steps by whatever norm it found.

    Gradients are put aside for the step, not cleared: offload keeps their memory for the next one. ZeRO calls the optimizer's step once
    for each group of weights.
    """

    def __init__(self, zero: Any, loss: Loss) -> None:
        self._zero, self._loss = zero, loss
        self._sound: bool | None = None
        self._aside: list[tuple[torch.Tensor, torch.Tensor | None]] = []

    @property
    def norm(self) -> float:
        """Norm of the current step; NaN if it was not finite. Equal on every rank."""
        found = float(self._zero._global_grad_norm or 0.0)
        sound = math.isfinite(found) and found >= 0  # DeepSpeed writes -1 for one that is not
        return math.nan if not sound or getattr(self._zero, "overflow", False) else found

    def begin(self) -> None:
        """A step begins."""
        self._sound = None

    def before(self, optimizer: torch.optim.Optimizer, _arguments: Any, _keywords: Any) -> None:
        """Set the gradients aside if norm or loss is not finite, so that nothing changes. The first call of a step is collective."""
        if self._sound is None:
            loss = self._loss().double().clone()
            dist.all_reduce(loss)
            self._sound = math.isfinite(loss.item())
        if self._sound and math.isfinite(self.norm):
            return
        self._aside = [(weight, weight.grad) for group in optimizer.param_groups for weight in group["params"]]
        for weight, _ in self._aside:
            weight.grad = None

    def after(self, _optimizer: torch.optim.Optimizer, _arguments: Any, _keywords: Any) -> None:
        """Restore the gradients that `before` put aside."""
        for weight, gradient in self._aside:
            weight.grad = gradient
        self._aside = []
