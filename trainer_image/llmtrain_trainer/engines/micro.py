"""A batch as micro-batches on this rank's device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from llmtrain_trainer.data.step_batch import StepBatch
from llmtrain_trainer.objectives.objective import Batch, Objective


class Micro(NamedTuple):
    """One micro-batch; each tensor is [micro_size, ...]."""

    ids: torch.Tensor
    columns: Batch
    """The objective's columns, by name."""

    positions: torch.Tensor | None
    """[micro_size, length]; None if rows are not packed."""


def count(batch: StepBatch, micro_size: int) -> int:
    """The micro-batches of a batch. Raises ValueError if the rows do not divide."""
    if batch.rows % micro_size:
        raise ValueError(f"a batch of {batch.rows} rows is not made of whole micro-batches of {micro_size}")
    return batch.rows // micro_size


def micro_batches(batch: StepBatch, objective: Objective, micro_size: int, device: torch.device) -> Iterator[Micro]:
    """In the order of the rows."""
    for first in range(0, count(batch, micro_size) * micro_size, micro_size):
        rows = slice(first, first + micro_size)
        positions = batch["position_ids"][rows].to(device) if batch.packed else None
        yield Micro(batch["input_ids"][rows].to(device), {name: batch[name][rows].to(device) for name in objective.columns}, positions)
