"""Kubernetes objects as they come: read where they are sound, and never a crash where they are not."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtrain_operator.kube.gangs.kueue import Kueue
from llmtrain_operator.kube.gangs.volcano import Volcano
from llmtrain_operator.life import from_objects
from llmtrain_operator.life.decide import decide
from llmtrain_operator.life.observed import Observed
from llmtrain_operator.life.status import as_dict, project

FIELDS = (
    "metadata spec status name namespace uid generation labels conditions type reason message lastTransitionTime containerStatuses state "
    "waiting running terminated exitCode finishedAt startedAt phase taints key unschedulable nodeName schedulingGates ownerReferences "
    "controller deletionTimestamp deletionGracePeriodSeconds creationTimestamp llmtrain.io/attempt llmtrain.io/index Ready True False "
    "trainer PodScheduled DisruptionTarget Failed attempt endedAttempt pods restarts goodput accountedUntil"
)
WORDS = st.sampled_from(FIELDS.split())
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=8) | st.just("2027-01-15T08:00:00Z")
ANYTHING = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=6), max_leaves=25)
READERS: list[Callable[[Any], Any]] = [
    from_objects.job_of,
    from_objects.pod_of,
    lambda value: from_objects.node_of("node", value),
    lambda value: from_objects.agent_of(value, 0.0),
    lambda value: from_objects.verdict_of(value if isinstance(value, str) else json.dumps(value, default=str)),
    Kueue().read,
    Volcano().read,
    lambda value: from_objects.warnings_of([value]),
]


@given(value=ANYTHING)
def test_nothing_that_stands_in_an_object_stops_the_reading(value: Any) -> None:
    for read in READERS:
        read(value)


@settings(max_examples=50)
@given(job=ANYTHING, pods=st.lists(ANYTHING, max_size=3), node=ANYTHING, now=st.floats(0, 4e9))
def test_whatever_was_read_there_is_a_decision_and_a_status(job: Any, pods: list[Any], node: Any, now: float) -> None:
    seen = Observed(
        now=now,
        job=from_objects.job_of(job),
        pods=tuple(from_objects.pod_of(pod) for pod in pods),
        nodes={"node": from_objects.node_of("node", node)},
    )
    json.dumps(as_dict(project(seen, decide(seen))), allow_nan=False)


def test_a_field_of_the_status_that_is_unsound_costs_that_field_alone(w: Any) -> None:
    written = {"attempt": 4, "phase": "Dancing", "endedAttempt": 3, "newField": 1}
    status = from_objects.job_of({**w.manifest(), "status": written}).status
    assert (status.attempt, status.ended_attempt, status.phase) == (4, 3, None)


def test_what_an_image_newer_than_the_operator_adds_is_passed_over() -> None:
    beat = {"rank": 0, "pid": 7, "step": 3, "phase": "step", "time": 1.0, "newField": 1}
    agent = from_objects.agent_of(
        {"job": "demo", "attempt": 1, "nodeRank": 0, "phase": "training", "newField": 1, "heartbeats": [beat]}, 2.0
    )
    assert agent is not None and agent.status.heartbeats[0].step == 3
    verdict = from_objects.verdict_of(json.dumps({"exitCode": 1, "reason": "RankFailed", "message": "It ended.", "newField": 1}))
    assert verdict is not None and verdict.reason == "RankFailed"


def test_a_manifest_that_cannot_be_read_says_why(w: Any) -> None:
    job = from_objects.job_of(w.manifest(task="juggle"))
    assert job.spec is None
    assert job.refusal is not None and "spec.task is juggle" in job.refusal


POD = {
    "metadata": {
        "name": "demo-a2-1",
        "uid": "u",
        "labels": {"llmtrain.io/attempt": "2", "llmtrain.io/index": "1"},
        "creationTimestamp": "2027-01-15T08:00:00Z",
        "ownerReferences": [{"uid": "other"}, {"uid": "job", "controller": True}],
    },
    "spec": {"nodeName": "node-1"},
    "status": {"phase": "Running"},
}


def with_status(**status: Any) -> dict[str, Any]:
    return {**POD, "status": status}


def test_the_identity_of_a_pod_is_read_from_its_labels_and_owner() -> None:
    pod = from_objects.pod_of(POD)
    assert (pod.attempt, pod.index, pod.owner, pod.node, pod.created) == (2, 1, "job", "node-1", 1_800_000_000.0)


def test_the_exit_of_our_container_is_read_among_those_of_others() -> None:
    ended = {"terminated": {"exitCode": 1, "reason": "Error", "message": "{}", "finishedAt": "2027-01-15T08:00:01Z"}}
    statuses = [{"name": "proxy", "state": {"running": {}}}, {"name": "trainer", "state": ended}]
    pod = from_objects.pod_of(with_status(phase="Running", containerStatuses=statuses))
    assert (pod.exit_code, pod.running, pod.stopped, pod.finished) == (1, False, True, 1_800_000_001.0)


def test_a_phase_set_from_afar_does_not_stop_a_container_that_runs() -> None:
    running = [{"name": "trainer", "state": {"running": {"startedAt": "2027-01-15T08:00:00Z"}}}]
    assert not from_objects.pod_of(with_status(phase="Failed", containerStatuses=running)).stopped
    assert from_objects.pod_of(with_status(phase="Failed", reason="Evicted")).stopped


@pytest.mark.parametrize(("status", "since"), [("True", None), ("False", 1_800_000_000.0), ("Unknown", 1_800_000_000.0)])
def test_a_node_is_not_ready_since_its_condition_changed(status: str, since: float | None) -> None:
    ready = {"type": "Ready", "status": status, "lastTransitionTime": "2027-01-15T08:00:00Z"}
    assert from_objects.node_of("n", {"status": {"conditions": [ready]}}).not_ready_since == since


def test_a_node_that_the_api_server_does_not_know_is_gone() -> None:
    assert not from_objects.node_of("n", None).exists
    assert from_objects.node_of("n", {"spec": {"taints": [{"key": "node.kubernetes.io/out-of-service"}]}}).out_of_service


def test_kueue_says_why_it_does_not_admit() -> None:
    waits = {"type": "QuotaReserved", "status": "False", "message": "couldn't assign flavors"}
    assert Kueue().read({"status": {"conditions": [waits]}}).message == "couldn't assign flavors"
    admitted = {"type": "Admitted", "status": "True", "lastTransitionTime": "2027-01-15T08:00:00Z"}
    assert Kueue().read({"status": {"conditions": [waits, admitted]}}).since == 1_800_000_000.0


def test_the_newest_warning_of_a_pod_is_kept() -> None:
    def event(message: str, time: str, kind: str = "Warning") -> dict[str, Any]:
        about = {"kind": "Pod", "name": "demo-a1-0"}
        return {"type": kind, "reason": "FailedMount", "message": message, "involvedObject": about, "lastTimestamp": time}

    events = [event("new", "2027-01-15T08:00:02Z"), event("old", "2027-01-15T08:00:01Z"), event("well", "2027-01-15T08:00:03Z", "Normal")]
    assert from_objects.warnings_of(events)["demo-a1-0"].message == "new"


def test_a_container_that_could_not_start_began_at_no_time() -> None:
    """Its runtime says that it started in 1970."""
    ended = {"exitCode": 128, "reason": "StartError", "startedAt": "1970-01-01T00:00:00Z", "finishedAt": "2027-01-15T08:00:00Z"}
    pod = {
        "metadata": {"name": "demo-a1-0", "uid": "u", "creationTimestamp": "2027-01-15T07:59:00Z"},
        "status": {"phase": "Failed", "containerStatuses": [{"name": "trainer", "state": {"terminated": ended}}]},
    }
    assert from_objects.pod_of(pod).started is None
