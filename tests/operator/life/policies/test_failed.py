"""Rows of the decision table on attempts that failed, and on what follows."""

from __future__ import annotations

from typing import Any

import pytest
from tests.operator.life.policies.table import LOST, NOW, RAN, Row, holds, named

from llmtrain_operator.life.decide import decide
from llmtrain_operator.life.decision import Action
from llmtrain_trainer.config import ExitCode
from llmtrain_trainer.config.formats import size

TABLE: list[Row] = [
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
]


@pytest.mark.parametrize("row", TABLE, ids=named)
def test_(w: Any, row: Row) -> None:
    holds(w, row)


def test_the_next_attempt_is_above_every_trace_of_one(w: Any) -> None:
    fenced = w.ended(ExitCode.FENCED, verdict={"reason": "Fenced", "storedAttempt": 7})
    decision = decide(w.observed(fenced, w.pod(1)))
    assert (decision.phase, decision.reason, decision.ends) == ("Restarting", "Fenced", 7)
    assert decide(w.nothing(job=w.job(w.status(**{**RAN, "phase": "Restarting", "ended_attempt": 7})))).attempt == 8
    restored = w.observed(w.ended(1, 0, 5), w.ended(1, 1, 5), job=w.job(w.status(**RAN)))
    assert decide(restored).reason == "AgentFailed"  # attempt 5 is the newest there is, whatever an old status says
    assert decide(w.nothing(job=w.job(w.status(**RAN)))).attempt == 2


def test_a_crash_leaves_the_others_little_time_and_a_drain_all_of_it(w: Any) -> None:
    crash = decide(w.observed(w.ended(1, verdict={}), w.pod(1)))
    drain = decide(w.observed(w.pod(0, deleting=NOW, disruption="EvictionByEvictionAPI"), w.pod(1)))
    assert [deletion.grace for deletion in crash.delete] == [10.0]
    assert [(deletion.name, deletion.grace) for deletion in drain.delete] == [("demo-a1-1", None)]


def test_pods_on_dead_nodes_are_told_by_force_and_the_others_in_order(w: Any) -> None:
    decision = decide(w.observed(nodes={"node-0": w.node(0), "node-1": w.node(1, exists=False)}))
    assert {deletion.name: deletion.grace for deletion in decision.delete} == {"demo-a1-1": 0.0, "demo-a1-0": 10.0}
    assert decision.failure is not None and decision.failure.node == "node-1"


def test_pods_of_attempts_before_the_last_are_cleared_away_and_the_last_kept_for_its_logs(w: Any) -> None:
    pods = [w.ended(1, index, attempt) for attempt in (1, 2) for index in (0, 1)]
    decision = decide(w.observed(*pods, job=w.job(w.status(attempt=2, ended_attempt=2))))
    assert decision.action is Action.CREATE
    assert {deletion.name for deletion in decision.delete} == {"demo-a1-0", "demo-a1-1"}


def test_a_lost_peer_is_explained_once_the_lost_node_is_seen(w: Any) -> None:
    status = w.status(phase="Restarting", ended_attempt=1, failure={"reason": "PeerLost", "attempt": 1})
    seen = w.observed(w.ended(1, verdict={"reason": "PeerLost"}), w.pod(1), job=w.job(status), nodes={"node-1": w.node(1, **LOST)})
    decision = decide(seen)
    assert decision.failure is not None and (decision.failure.reason, decision.failure.node) == ("NodeLost", "node-1")
    assert not decision.restart


def test_lack_of_memory_is_set_against_what_the_plan_expected(w: Any) -> None:
    """The decision sees the plan: which of the two is wrong, estimate or limit, is then seen at once."""
    killed = w.ended(137, exit_reason="OOMKilled"), w.pod(1)
    plan = w.plan(resources={"nodes": 2, "memory": "1Gi"})
    peak, budget = plan.memory.peak, plan.memory.budget
    without, decision = decide(w.observed(*killed)), decide(w.observed(*killed, plan=plan))
    assert without.reason == decision.reason == "OutOfMemory" and without.message.endswith("more memory than its limit and was killed.")
    assert decision.message == f"{without.message} By the plan a rank needs up to {size(peak)}, and may use {size(budget)}."
    assert decide(w.observed(w.ended(1, verdict={}), w.pod(1), plan=plan)).message == "It failed."
