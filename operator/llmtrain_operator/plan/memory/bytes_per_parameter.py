"""Bytes a weight costs while it is trained. What each engine's are is in plan/engines/."""

from __future__ import annotations

from dataclasses import dataclass

from llmtrain_trainer.config import Offload

NOWHERE = Offload()
"""Everything stays on the device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateBytes:
    """Bytes on each rank for every trained weight of its stage, after the data-parallel ranks have shared out what they share."""

    weights: float
    gradients: float
    optimizer: float
    source: str
    """Where the numbers come from, in words a table can show."""
