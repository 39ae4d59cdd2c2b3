"""Rows of the decision table on jobs that end or are over."""

from __future__ import annotations

from typing import Any

import pytest
from tests.operator.life.policies.table import NOW, Row, condition, holds, named

from llmtrain_operator.life.decision import Action

TABLE: list[Row] = [
    (
        "a job that is run by another controller is left alone",
        lambda w: w.nothing(job=w.job(spec=w.spec(managedBy="kueue.x-k8s.io/multikueue"))),
        "Running",
        "ManagedElsewhere",
        Action.LEAVE_ALONE,
    ),
    ("a job that goes away is left alone", lambda w: w.observed(job=w.job(deleting=True)), "Running", "Deleting", Action.LEAVE_ALONE),
    (
        "suspend asks the pods to save",
        lambda w: w.observed(job=w.job(spec=w.spec(suspend=True))),
        "Suspending",
        "Suspending",
        Action.DELETE_PODS,
    ),
    (
        "suspend waits for pods that save",
        lambda w: w.observed(
            w.pod(0, deleting=NOW, grace=300),
            w.ended(75, 1),
            job=w.job(w.status(phase="Suspending", ended_attempt=1), w.spec(suspend=True)),
        ),
        "Suspending",
        "Suspending",
        Action.NOTHING,
    ),
    (
        "a suspended job holds nothing",
        lambda w: w.observed(w.ended(75), w.ended(75, 1), job=w.job(w.status(phase="Suspending", ended_attempt=1), w.spec(suspend=True))),
        "Suspended",
        "Suspended",
        Action.NOTHING,
    ),
    (
        "a job that is born suspended starts nothing",
        lambda w: w.nothing(job=w.job(w.status(phase=None, attempt=None, pods=None), w.spec(suspend=True))),
        "Suspended",
        "Suspended",
        Action.NOTHING,
    ),
    (
        "a resumed job waits until the last pod has saved",
        lambda w: w.observed(w.pod(0, deleting=NOW), w.ended(75, 1), job=w.job(w.status(phase="Suspending", ended_attempt=1))),
        "Restarting",
        "Stopping",
        Action.NOTHING,
    ),
    (
        "a resumed job starts its next attempt",
        lambda w: w.nothing(job=w.job(w.status(phase="Suspended", ended_attempt=1))),
        "Starting",
        "CreatingPods",
        Action.CREATE,
    ),
    ("all pods ended well: complete", lambda w: w.observed(w.ended(0), w.ended(0, 1)), "Complete", "Complete", Action.NOTHING),
    (
        "node 0 is done and another is about to be",
        lambda w: w.observed(w.ended(0), w.pod(1)),
        "Running",
        "Finishing",
        Action.NOTHING,
    ),
    (
        "a node lost after node 0 is done changes nothing",
        lambda w: w.observed(w.ended(0), w.pod(1), nodes={"node-1": w.node(1, exists=False)}),
        "Complete",
        "Complete",
        Action.DELETE_PODS,
    ),
    (
        "another node's success is not the job's",
        lambda w: w.observed(w.ended(1, 0, verdict={}), w.ended(0, 1)),
        "Restarting",
        "RankFailed",
        Action.NOTHING,
    ),
    (
        "too long active ends the job",
        lambda w: w.observed(
            job=w.job(
                w.status(goodput={"totalSeconds": 5000, "byCause": {"productive": 4000, "queued": 1000}}),
                w.spec(activeDeadlineSeconds=3600),
            )
        ),
        "Failed",
        "DeadlineExceeded",
        Action.DELETE_PODS,
    ),
    (
        "time in the queue is not active",
        lambda w: w.observed(
            job=w.job(
                w.status(goodput={"totalSeconds": 5000, "byCause": {"productive": 3000, "queued": 2000}}),
                w.spec(activeDeadlineSeconds=3600),
            )
        ),
        "Running",
        "Training",
        Action.NOTHING,
    ),
    (
        "a complete job stays complete though its pods are gone",
        lambda w: w.nothing(job=w.job(w.status(phase="Complete", conditions=[condition("Complete", "Complete")]))),
        "Complete",
        "Complete",
        Action.NOTHING,
    ),
    (
        "a failed job stays failed with its reason and frees its pods",
        lambda w: w.observed(job=w.job(w.status(phase="Failed", conditions=[condition("Failed", "BadData")]))),
        "Failed",
        "BadData",
        Action.DELETE_PODS,
    ),
    (
        "a failed job is not suspended",
        lambda w: w.nothing(job=w.job(w.status(phase="Failed"), w.spec(suspend=True))),
        "Failed",
        "Failed",
        Action.NOTHING,
    ),
    (
        "a finished job is kept until its time is over",
        lambda w: w.nothing(
            job=w.job(w.status(phase="Complete", completion_time="2027-01-15T07:59:30Z"), w.spec(ttlSecondsAfterFinished=60))
        ),
        "Complete",
        "Complete",
        Action.NOTHING,
    ),
    (
        "a finished job is deleted after its time",
        lambda w: w.nothing(
            job=w.job(w.status(phase="Complete", completion_time="2027-01-15T07:58:00Z"), w.spec(ttlSecondsAfterFinished=60))
        ),
        "Complete",
        "Complete",
        Action.DELETE_JOB,
    ),
]


@pytest.mark.parametrize("row", TABLE, ids=named)
def test_(w: Any, row: Row) -> None:
    holds(w, row)
