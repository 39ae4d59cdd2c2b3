"""A batch as micro-batches on this rank's device."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from llmtrain_trainer.data.step_batch import StepBatch

Micro = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]
"""Ids, labels, and positions where rows are packed; each [micro_size, length]."""


def count(batch: StepBatch, micro_size: int) -> int:
    """Micro-batches of a batch. Raises ValueError where rows are left over."""
    rows = batch["input_ids"].shape[0]
    if rows % micro_size:
        raise ValueError(f"a batch of {rows} rows is not made of whole micro-batches of {micro_size}")
    return rows // micro_size


def micro_batches(batch: StepBatch, micro_size: int, device: torch.device) -> Iterator[Micro]:
    """In the order of the rows."""
    for first in range(0, count(batch, micro_size) * micro_size, micro_size):
        rows = slice(first, first + micro_size)
        positions = batch["position_ids"][rows].to(device) if batch.packed else None
        yield batch["input_ids"][rows].to(device), batch["labels"][rows].to(device), positions
