"""The decision table: a row is a situation in one sentence, what is seen, and the phase, reason and action that must come out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from llmtrain_operator.life.attempt import AttemptView
from llmtrain_operator.life.decide import decide
from llmtrain_operator.life.decision import Action
from llmtrain_operator.life.observed import Observed

NOW = 1_800_000_000.0
FRESH: dict[str, Any] = {"phase": None, "attempt": None, "pods": None}
LOST = {"not_ready_since": NOW - 90}
RAN = {"phase": "Restarting", "ended_attempt": 1, "failure": {"reason": "RankFailed", "attempt": 1, "time": "2027-01-15T08:00:00Z"}}
QUEUED = {"type": "Queued", "status": "True", "reason": "GangOrder", "lastTransitionTime": "2027-01-15T07:59:00Z"}


def condition(kind: str, reason: str = "Why") -> dict[str, Any]:
    return {"type": kind, "status": "True", "reason": reason, "lastTransitionTime": "2027-01-15T07:00:00Z"}


Case = Callable[[Any], Observed]

Row = tuple[str, Case, str, str, Action]


def named(row: Row) -> str:
    return row[0]


def holds(w: Any, row: Row) -> None:
    """The decision is the row's, and complete."""
    _, case, phase, reason, action = row
    decision = decide(case(w))
    assert (decision.phase, decision.reason, decision.action) == (phase, reason, action)
    assert decision.message and "\n" not in decision.message
    assert (decision.action is Action.DELETE_PODS) <= bool(decision.delete)
    assert (decision.action is Action.CREATE) == bool(decision.create)


def view(observed: Observed) -> AttemptView:
    return AttemptView(observed)


def waiting(w: Any, age: float = 60.0, **changes: Any) -> Observed:
    """A gang of which no pod has a node."""
    pods = [w.pending(index, node=None, created=NOW - age) for index in (0, 1)]
    return replace(w.observed(*pods, job=w.job(w.status(phase="Starting")), agents={}), **changes)
