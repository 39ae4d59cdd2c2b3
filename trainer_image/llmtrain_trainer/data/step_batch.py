"""What a replica is given for a step: made by data/samples.py, computed by every engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class StepBatch:
    """What one data-parallel replica computes in one optimizer step.

    The tensors have shape [accumulation * micro_batch, sequence_length], int64, on the CPU. Row a * micro_batch + i is row i of
    micro-batch a.
    """

    input_ids: torch.Tensor
    labels: torch.Tensor
    """Already shifted: labels[b, t] is the token that follows input_ids[b, t], or -100 where it is no target."""

    position_ids: torch.Tensor
    """Position within its own sample: 0 starts a new sample, over whose border attention does not look."""

    packed: bool
    """True where a row may hold several samples (position_ids then matter to attention)."""

    target_tokens: int
    """Labels that are not -100 in the whole global batch, over all replicas: what the loss is divided by."""
