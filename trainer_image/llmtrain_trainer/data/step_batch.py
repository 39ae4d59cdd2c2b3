"""What a replica is given for a step: made by data/samples.py, computed by every engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class StepBatch:
    """What one data-parallel replica computes in one optimizer step, as named columns of the same rows.

    Rows number accumulation * micro_batch; row a * micro_batch + i is row i of micro-batch a.
    """

    columns: Mapping[str, torch.Tensor]
    """int64 on the CPU, each [rows, sequence_length] where it has a value for each token, or [rows]. Every task has `input_ids` and
    `position_ids`: the position within its own sample, where 0 starts a new sample, over whose border attention does not look.
    The objective names the others that it reads: see data/columns.py."""

    packed: bool
    """True where a row may hold several samples (position_ids then matter to attention)."""

    target_tokens: int
    """Targets in the whole global batch, over all replicas: what the loss is divided by."""

    def __getitem__(self, column: str) -> torch.Tensor:
        return self.columns[column]

    @property
    def rows(self) -> int:
        return len(self.columns["input_ids"])
