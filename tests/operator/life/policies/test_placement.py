"""Rows of the decision table on the order in which gangs are placed."""

from __future__ import annotations

from typing import Any

import pytest
from tests.operator.life.policies.table import NOW, QUEUED, Row, holds, named

from llmtrain_operator.life.decision import Action
from llmtrain_operator.life.observed import Rival
from llmtrain_operator.life.policies.placement import rival_of

TABLE: list[Row] = [
    (
        "a gang waits while another is placed",
        lambda w: w.nothing(job=w.job(w.status(attempt=None, pods=None)), rivals=(Rival(key="team/other", placing=True),)),
        "Queued",
        "GangOrder",
        Action.NOTHING,
    ),
    (
        "a gang waits behind one that waited before",
        lambda w: w.nothing(
            job=w.job(w.status(attempt=None, pods=None)), rivals=(Rival(key="team/other", placing=False, waiting_since=NOW - 10),)
        ),
        "Queued",
        "GangOrder",
        Action.NOTHING,
    ),
    (
        "the gang that waited longest has its turn",
        lambda w: w.nothing(
            job=w.job(w.status(phase="Queued", attempt=None, pods=None, conditions=[QUEUED])),
            rivals=(Rival(key="team/other", placing=False, waiting_since=NOW - 10),),
        ),
        "Starting",
        "CreatingPods",
        Action.CREATE,
    ),
    (
        "a gang that a scheduler of gangs places needs no turn",
        lambda w: w.nothing(job=w.job(w.status(attempt=None, pods=None)), gang="volcano", rivals=(Rival(key="team/other", placing=True),)),
        "Starting",
        "CreatingPods",
        Action.CREATE,
    ),
    (
        "a gang that holds half its nodes for long gives way to one that waits",
        lambda w: w.observed(
            w.pending(0, created=NOW - 400),
            w.pending(1, created=NOW - 400, node=None),
            rivals=(Rival(key="team/other", placing=False, waiting_since=NOW - 10),),
            agents={},
        ),
        "Queued",
        "GaveWay",
        Action.DELETE_PODS,
    ),
    (
        "a gang for which there is no node gives way soon",
        lambda w: w.observed(
            w.pending(0, created=NOW - 25, node=None, unschedulable="0/2 nodes are available: 2 Insufficient memory."),
            w.pending(1, created=NOW - 25, node=None, unschedulable="0/2 nodes are available: 2 Insufficient memory."),
            rivals=(Rival(key="team/other", placing=False, waiting_since=NOW - 10),),
            agents={},
        ),
        "Queued",
        "GaveWay",
        Action.DELETE_PODS,
    ),
    (
        "a gang that holds half its nodes does not give way as soon",
        lambda w: w.observed(
            w.pending(0, created=NOW - 25),
            w.pending(1, created=NOW - 25, node=None, unschedulable="0/2 nodes are available: 2 Insufficient memory."),
            rivals=(Rival(key="team/other", placing=False, waiting_since=NOW - 10),),
            agents={},
        ),
        "Starting",
        "Unschedulable",
        Action.NOTHING,
    ),
    (
        "a gang that holds half its nodes goes on waiting where nobody else does",
        lambda w: w.observed(w.pending(0, created=NOW - 400), w.pending(1, created=NOW - 400, node=None), agents={}),
        "Starting",
        "Scheduling",
        Action.NOTHING,
    ),
]


@pytest.mark.parametrize("row", TABLE, ids=named)
def test_(w: Any, row: Row) -> None:
    holds(w, row)


def test_a_job_tells_the_others_whether_it_is_placing_or_waiting(w: Any) -> None:
    placing = rival_of(w.observed(w.pending(0), w.pending(1, node=None), agents={}))
    assert placing is not None and placing.placing
    waiting = rival_of(w.nothing(job=w.job(w.status(phase="Queued", attempt=None, conditions=[QUEUED]))))
    assert waiting is not None and (waiting.placing, waiting.waiting_since) == (False, NOW - 60)
    assert rival_of(w.observed()) is None
    assert rival_of(w.nothing(job=w.job(w.status(phase="Failed")))) is None
    assert rival_of(w.observed(w.pending(0, node=None), gang="kueue")) is None
