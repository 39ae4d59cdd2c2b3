"""In which states the time of a run is booked: one vocabulary for the agent of a node and for the operator.

Both call the productive share of what they book goodput. An agent knows one attempt, from its own start; the operator knows the whole job,
and learns of it from rows that it sees now and then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

TimeState = Literal["productive", "starting", "data_wait", "checkpoint", "restore", "recompute", "restart", "hung", "queued", "suspended"]

TIME_STATES: Mapping[TimeState, str] = {
    "productive": "steps whose result was kept",
    "starting": "before the first step of the run",
    "data_wait": "waiting for batches",
    "checkpoint": "training held up by a save",
    "restore": "choosing, fetching and verifying a checkpoint",
    "recompute": "steps that were done before",
    "restart": "from a failure to the next step",
    "hung": "no step for long",
    "queued": "waiting to be admitted",
    "suspended": "nothing was wanted of it",
}

OF_THE_OPERATOR: frozenset[TimeState] = frozenset({"queued", "suspended"})
"""Nothing of the job runs meanwhile, so no agent is there to book it."""

OF_AN_AGENT: tuple[TimeState, ...] = tuple(state for state in TIME_STATES if state not in OF_THE_OPERATOR)

BOOKED_BY_THE_OPERATOR: tuple[TimeState, ...] = tuple(state for state in TIME_STATES if state not in ("data_wait", "restore"))
"""Two it does not tell apart: data_wait is within productive, restore within starting and restart."""


def while_training(
    elapsed: float, *, first: int, last: int, furthest: int, blocked: float = 0.0, waited: float = 0.0
) -> dict[TimeState, float]:
    """`elapsed` seconds in which a run trained from step `first` to step `last`, by state. Their sum is `elapsed`.

    `furthest`: the last step that was ever done before. `blocked` and `waited`: seconds held up by a save and by the next batch, as the
    rows of metrics say; the rest is divided evenly among the steps.
    """
    blocked = min(elapsed, blocked)
    waited = min(elapsed - blocked, waited)
    useful = elapsed - blocked - waited
    again = useful * _done_before(first, last, furthest)
    return {"checkpoint": blocked, "data_wait": waited, "recompute": again, "productive": useful - again}


def _done_before(first: int, last: int, furthest: int) -> float:
    """Share of steps first + 1 to last that had been done already. While no step ends, the next one decides."""
    if last <= first:
        return float(last < furthest)
    return max(0, min(last, furthest) - first) / (last - first)


def total_of(by_state: Mapping[str, float]) -> float:
    """Seconds in all states in which the job was wanted."""
    return sum(seconds for state, seconds in by_state.items() if state != "suspended")


def goodput_of(by_state: Mapping[str, float]) -> float | None:
    """Productive share of the time in which the job was wanted; None before any time passed."""
    total = total_of(by_state)
    return min(1.0, by_state.get("productive", 0.0) / total) if total else None
