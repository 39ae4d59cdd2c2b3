"""Bytes per trained parameter. plan/engines/ has the numbers of each engine."""

from __future__ import annotations

from dataclasses import dataclass

from llmtrain_trainer.config import Offload

NO_OFFLOAD = Offload()
"""Everything stays on the device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateBytes:
    """Bytes on each rank per trained parameter of its stage, after sharding over the data-parallel ranks."""

    weights: float
    gradients: float
    optimizer: float
    source: str
    """Explanation of the numbers for a table."""
