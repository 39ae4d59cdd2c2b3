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
