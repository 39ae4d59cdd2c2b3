"""What the policies of an agent judge, and what they may decide."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from llmtrain_trainer.agent.gang.failure import NodeFailure
from llmtrain_trainer.config import Heartbeat


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeats:
    """Of this node's ranks."""

    beats: Sequence[Heartbeat]
    """One of each rank; of one that gave none yet, its start."""

    silences: Mapping[int, float]
    """Seconds without a new one, by rank."""

    start_step: int
    """Steps done when the ranks started."""

    patience: float
    """Seconds that a step may take."""

    states: Callable[[], Mapping[int, str]]
    """Asks for the state of each rank's process, as psutil names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One look at the ranks of this node: read once, so that every policy judges the same moment."""

    node: str
    """How messages call it."""

    now: float
    """Seconds since the epoch."""

    ranks: int
    codes: Mapping[int, int]
    """Exit code of each rank that has ended."""

    fenced: bool
    """A later gang, or another run, has the destination."""

    grace_over: bool
    """A stop was asked for, and its time is over."""

    heartbeats: Heartbeats


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundDecision:
    """What the supervisor does now."""

    action: Literal["wait", "end-fenced", "fail", "leave", "end-unsaved", "restart-hung"]
    failure: NodeFailure | None = None
    """Of a hang: the evidence. Of a rank that failed, the supervisor collects it."""
