"""A batch as micro-batches on this rank's device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from llmtrain_trainer.data.step_batch import StepBatch
from llmtrain_trainer.objectives.objective import Batch, Objective


class Micro(NamedTuple):
    """A few rows, each tensor [micro_size, ...]."""

    ids: torch.Tensor
    columns: Batch
    """What the objective reads."""

    positions: torch.Tensor | None
    """Where rows are packed."""


def count(batch: StepBatch, micro_size: int) -> int:
    """Micro-batches of a batch. Raises ValueError where rows are left over."""
    if batch.rows % micro_size:
        raise ValueError(f"a batch of {batch.rows} rows is not made of whole micro-batches of {micro_size}")
    return batch.rows // micro_size


def micro_batches(batch: StepBatch, objective: Objective, micro_size: int, device: torch.device) -> Iterator[Micro]:
    """In the order of the rows."""
    for first in range(0, count(batch, micro_size) * micro_size, micro_size):
        rows = slice(first, first + micro_size)
        positions = batch["position_ids"][rows].to(device) if batch.packed else None
        yield Micro(batch["input_ids"][rows].to(device), {name: batch[name][rows].to(device) for name in objective.columns}, positions)
