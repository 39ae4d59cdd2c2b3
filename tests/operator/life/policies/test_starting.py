"""Rows of the decision table on creation, and on the way to the first step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.operator.life.policies.table import NOW, Row, holds, named

from llmtrain_operator.life.decide import decide
from llmtrain_operator.life.decision import Action
from llmtrain_operator.life.observed import Admission, NotCreated, Observed
from llmtrain_operator.life.times import text_of

TABLE: list[Row] = [
    (
        "a new job gets all its pods",
        lambda w: w.nothing(job=w.job(w.status(phase=None, attempt=None, pods=None))),
        "Starting",
        "CreatingPods",
        Action.CREATE,
    ),
    (
        "a gang whose creation was cut short is completed",
        lambda w: w.observed(w.pending(0), agents={}, job=w.job(w.status(phase="Starting", pods={"created": 1}))),
        "Starting",
        "CreatingPods",
        Action.CREATE,
    ),
    (
        "a job that is refused gets none",
        lambda w: w.nothing(job=w.job(w.status(phase=None, attempt=None, pods=None), refusal="spec.x is 3: it must be 2.")),
        "Pending",
        "Refused",
        Action.NOTHING,
    ),
    (
        "a manifest that cannot be read leaves what runs alone",
        lambda w: w.observed(job=replace(w.job(), spec=None, refusal="Unreadable.")),
        "Running",
        "Refused",
        Action.NOTHING,
    ),
    (
        "a running gang goes on though a newer plan refuses it",
        lambda w: w.observed(job=w.job(refusal="Too large.")),
        "Running",
        "Training",
        Action.NOTHING,
    ),
    (
        "a gang that is gated waits in its queue",
        lambda w: w.observed(w.pending(0, node=None, gated=True), w.pending(1, node=None, gated=True), gang="kueue", agents={}),
        "Queued",
        "Queued",
        Action.NOTHING,
    ),
    (
        "a gang without nodes says what the scheduler says",
        lambda w: w.observed(w.pending(0), w.pending(1, node=None, unschedulable="0/2 nodes are available"), agents={}),
        "Starting",
        "Unschedulable",
        Action.NOTHING,
    ),
    (
        "pods that run prepare",
        lambda w: w.observed(agents={0: w.agent(phase="preparing")}),
        "Starting",
        "Preparing",
        Action.NOTHING,
    ),
    (
        "an agent that was not heard yet leaves the gang starting",
        lambda w: w.observed(agents={}, job=w.job(w.status(phase="Starting"))),
        "Starting",
        "AgentNotHeard",
        Action.NOTHING,
    ),
    ("a gang that trains is running", lambda w: w.observed(), "Running", "Training", Action.NOTHING),
    (
        "a running gang stays running while its agent is not heard",
        lambda w: w.observed(agents={}),
        "Running",
        "Training",
        Action.NOTHING,
    ),
    (
        "ranks that start again in place are restarting",
        lambda w: w.observed(agents={0: w.agent(phase="restarting")}),
        "Restarting",
        "RestartInPlace",
        Action.NOTHING,
    ),
    (
        "time in the queue does not count against the startup deadline",
        lambda w: w.observed(
            w.pending(0, created=NOW - 5000),
            w.pending(1, created=NOW - 5000),
            job=w.job(w.status(phase="Queued"), w.spec(startupDeadlineSeconds=600)),
            admission=Admission(admitted=True, since=NOW - 60),
            gang="kueue",
            agents={},
        ),
        "Starting",
        "CreatingContainers",
        Action.NOTHING,
    ),
]


@pytest.mark.parametrize("row", TABLE, ids=named)
def test_(w: Any, row: Row) -> None:
    holds(w, row)


def test_an_attempt_that_has_no_pods_and_never_had_them_all_is_not_begun_again(w: Any) -> None:
    """Its number may be one that a status restored from the past names, and that trained long ago."""
    assert decide(w.nothing(job=w.job(w.status(phase="Starting", attempt=4, pods={"created": 1})))).attempt == 5


def test_an_attempt_that_another_operator_is_about_to_create_is_waited_for(w: Any) -> None:
    def seen(ago: float, **changes: Any) -> Observed:
        goodput = {"accountedUntil": text_of(NOW - ago), "totalSeconds": 1, "byCause": {}}
        return w.nothing(job=w.job(w.status(phase="Starting", attempt=2, ended_attempt=1, pods={"created": 0}, goodput=goodput)), **changes)

    waits = decide(seen(1))
    assert (waits.action, waits.phase, waits.again_in) == (Action.NOTHING, "Starting", 2.0)
    assert decide(seen(3)).attempt == 3
    assert decide(seen(-60)).attempt == 3, "a clock that was set back holds nothing up"
    assert decide(seen(1, not_created=NotCreated(message="exceeded quota"))).attempt == 2


def test_only_the_missing_pods_of_a_gang_are_created(w: Any) -> None:
    decision = decide(w.observed(w.pending(1), agents={}, job=w.job(w.status(phase="Starting", pods={"created": 1}))))
    assert (decision.attempt, decision.create) == (1, (0,))
