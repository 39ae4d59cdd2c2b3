"""The decision table: a row is a situation in one sentence, and the phase, reason and action that must come out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from llmtrain_operator.life.decide import decide
from llmtrain_operator.life.decision import Action
from llmtrain_operator.life.observed import Admission, Observed, Rival

NOW = 1_800_000_000.0
LOST = {"not_ready_since": NOW - 90}
RAN = {"phase": "Restarting", "ended_attempt": 1, "failure": {"reason": "RankFailed", "attempt": 1, "time": "2027-01-15T08:00:00Z"}}
QUEUED = {"type": "Queued", "status": "True", "reason": "GangOrder", "lastTransitionTime": "2027-01-15T07:59:00Z"}


def condition(kind: str, reason: str = "Why") -> dict[str, Any]:
    return {"type": kind, "status": "True", "reason": reason, "lastTransitionTime": "2027-01-15T07:00:00Z"}


Case = Callable[[Any], Observed]

# situation, what is seen -> phase, reason, action
TABLE: list[tuple[str, Case, str, str, Action]] = [
    # creation
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
        "pods of an earlier job of the name are waited for, and are not ours to delete",
        lambda w: w.nothing(job=w.job(w.status(phase=None, attempt=None, pods=None)), pods=(w.pod(owner="another"),)),
        "Pending",
        "NameInUse",
        Action.NOTHING,
    ),
    (
        "stopped pods of an earlier job of the name hold its name",
        lambda w: w.nothing(job=w.job(w.status(phase=None, attempt=None, pods=None)), pods=(w.ended(0, owner="another"),)),
        "Pending",
        "NameInUse",
        Action.NOTHING,
    ),
    (
        "a job that is run by another controller is left alone",
        lambda w: w.nothing(job=w.job(spec=w.spec(managedBy="kueue.x-k8s.io/multikueue"))),
        "Running",
        "ManagedElsewhere",
        Action.LEAVE_ALONE,
    ),
    ("a job that goes away is left alone", lambda w: w.observed(job=w.job(deleting=True)), "Running", "Deleting", Action.LEAVE_ALONE),
    # the way to the first step
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
        "an attempt that is late for its first step is started again",
        lambda w: w.observed(
            job=w.job(w.status(phase="Starting"), w.spec(startupDeadlineSeconds=600)), agents={0: w.agent(phase="starting")}
        ),
        "Restarting",
        "StartupDeadline",
        Action.DELETE_PODS,
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
    # failures
    (
        "a pod that failed ends its gang",
        lambda w: w.observed(w.ended(1, verdict={}), w.pod(1)),
        "Restarting",
        "RankFailed",
        Action.DELETE_PODS,
    ),
    (
        "a pod that is deleted ends its gang",
        lambda w: w.observed(w.pod(0), w.pod(1, deleting=NOW + 20, grace=30)),
        "Restarting",
        "PodDeleted",
        Action.DELETE_PODS,
    ),
    ("a pod that is gone ends its gang", lambda w: w.observed(w.pod(0)), "Restarting", "PodDeleted", Action.DELETE_PODS),
    (
        "a node that is not ready for a minute is lost",
        lambda w: w.observed(nodes={"node-0": w.node(0), "node-1": w.node(1, **LOST)}),
        "Restarting",
        "NodeLost",
        Action.DELETE_PODS,
    ),
    (
        "a node that flaps is waited for",
        lambda w: w.observed(nodes={"node-0": w.node(0), "node-1": w.node(1, not_ready_since=NOW - 20)}),
        "Running",
        "Training",
        Action.NOTHING,
    ),
    (
        "a node that is not ready is not lost while its agent speaks",
        lambda w: w.observed(nodes={"node-0": w.node(0, **LOST), "node-1": w.node(1)}),
        "Running",
        "Training",
        Action.NOTHING,
    ),
    (
        "a bad configuration ends the job",
        lambda w: w.observed(w.ended(2, verdict={"reason": "BadData"}), w.pod(1)),
        "Failed",
        "BadData",
        Action.DELETE_PODS,
    ),
    (
        "a spent budget ends the job",
        lambda w: w.observed(
            w.ended(1, verdict={}),
            job=w.job(w.status(restarts={"recent": [{"time": "2027-01-15T07:00:00Z", "count": 20}]})),
        ),
        "Failed",
        "RestartBudgetSpent",
        Action.NOTHING,
    ),
    (
        "restarts in place count against the budget too",
        lambda w: w.observed(w.ended(1, verdict={"restarts": 20}), w.ended(1, 1, verdict={"restarts": 20})),
        "Failed",
        "RestartBudgetSpent",
        Action.NOTHING,
    ),
    (
        "restarts before the window do not count",
        lambda w: w.observed(
            w.ended(1, verdict={}),
            w.ended(1, 1, verdict={}),
            job=w.job(w.status(restarts={"recent": [{"time": "2027-01-14T07:00:00Z", "count": 20}]})),
        ),
        "Restarting",
        "RankFailed",
        Action.NOTHING,
    ),
    (
        "preemption goes on though the budget is spent",
        lambda w: w.observed(
            w.pod(0, deleting=NOW, disruption="PreemptionByScheduler"),
            w.pod(1),
            job=w.job(w.status(restarts={"recent": [{"time": "2027-01-15T07:00:00Z", "count": 20}]})),
        ),
        "Restarting",
        "Preempted",
        Action.DELETE_PODS,
    ),
    (
        "the same error twice without progress ends the job",
        lambda w: w.observed(
            *(w.ended(1, index, 2, verdict={"step": 7}) for index in (0, 1)),
            job=w.job(
                w.status(attempt=2, ended_attempt=1, failure={"reason": "RankFailed", "message": "It failed.", "attempt": 1, "step": 7})
            ),
        ),
        "Failed",
        "RankFailed",
        Action.NOTHING,
    ),
    # between attempts
    (
        "nothing new starts while a pod of the last attempt still ends",
        lambda w: w.observed(w.ended(1), w.pod(1, deleting=NOW + 10, grace=30), job=w.job(w.status(**RAN))),
        "Restarting",
        "Stopping",
        Action.NOTHING,
    ),
    (
        "a pod on a dead node is deleted by force",
        lambda w: w.observed(
            w.ended(1),
            w.pod(1, deleting=NOW + 10, grace=30),
            job=w.job(w.status(**RAN)),
            nodes={"node-1": w.node(1, exists=False)},
        ),
        "Restarting",
        "Stopping",
        Action.DELETE_PODS,
    ),
    (
        "a pod that was deleted by force on a dead node holds up nothing more",
        lambda w: w.observed(
            w.ended(1),
            w.pod(1, deleting=NOW, grace=0),
            job=w.job(w.status(**RAN)),
            nodes={"node-1": w.node(1, exists=False)},
        ),
        "Starting",
        "CreatingPods",
        Action.CREATE,
    ),
    (
        "a pod that was deleted by force on a live node is still waited for",
        lambda w: w.observed(w.ended(1), w.pod(1, deleting=NOW, grace=0), job=w.job(w.status(**RAN))),
        "Restarting",
        "Stopping",
        Action.NOTHING,
    ),
    (
        "once all have ended the next attempt starts",
        lambda w: w.observed(w.ended(1), w.ended(1, 1), job=w.job(w.status(**RAN))),
        "Starting",
        "CreatingPods",
        Action.CREATE,
    ),
    (
        "the third failure in a row is followed by a pause",
        lambda w: w.observed(w.ended(1), w.ended(1, 1), job=w.job(w.status(**RAN, restarts={"streak": 3}))),
        "Restarting",
        "Backoff",
        Action.NOTHING,
    ),
    (
        "pods of an older attempt that still run are ended",
        lambda w: w.observed(w.pod(0, 2), w.pod(1, 2), w.pod(1, 1), job=w.job(w.status(attempt=2, ended_attempt=1)), agents={}),
        "Running",
        "Fencing",
        Action.DELETE_PODS,
    ),
    # suspend
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
    # the end
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
    # turns
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


@pytest.mark.parametrize(("situation", "case", "phase", "reason", "action"), TABLE, ids=[row[0] for row in TABLE])
def test_(w: Any, situation: str, case: Case, phase: str, reason: str, action: Action) -> None:
    decision = decide(case(w))
    assert (decision.phase, decision.reason, decision.action) == (phase, reason, action)
    assert decision.message and "\n" not in decision.message
    assert (decision.action is Action.DELETE_PODS) <= bool(decision.delete)
    assert (decision.action is Action.CREATE) == bool(decision.create)
