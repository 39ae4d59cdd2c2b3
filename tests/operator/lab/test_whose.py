"""Names and labels of a job on objects of somebody else: nothing of theirs is counted, changed or deleted, and the status says what is in
the way."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from tests.operator.lab.lab import Lab

from llmtrain_operator.kube.api.client import Object

pytestmark = pytest.mark.long

OTHERS: dict[str, list[Object]] = {
    "nobody's": [],
    "a ReplicaSet's": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "tb", "uid": "rs", "controller": True}],
    "another kind of that name's": [{"apiVersion": "batch/v1", "kind": "LLMTrainJob", "name": "demo", "uid": "x", "controller": True}],
    "another job's": [{"apiVersion": "llmtrain.io/v1alpha1", "kind": "LLMTrainJob", "name": "demo-a1", "uid": "x", "controller": True}],
    "an owner's that controls nothing": [{"apiVersion": "llmtrain.io/v1alpha1", "kind": "LLMTrainJob", "name": "demo", "uid": "x"}],
}
LABELS = {"llmtrain.io/job": "demo", "llmtrain.io/attempt": "999999999999", "llmtrain.io/index": "0"}


def pod(name: str, labels: dict[str, str], owners: list[Object]) -> Object:
    """One that runs on a node of its own."""
    status = {
        "phase": "Running",
        "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": "2027-01-15T08:00:00Z"}],
        "containerStatuses": [{"name": "trainer", "state": {"running": {"startedAt": "2027-01-15T08:00:00Z"}}}],
    }
    meta = {"name": name, "namespace": "team", "labels": labels, "ownerReferences": owners}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta,
        "spec": {"nodeName": "elsewhere", "containers": [{"name": "trainer"}]},
        "status": status,
    }


def named(lab: Lab, kind: str, name: str) -> Object:
    return next(found for found in lab.server.find(kind, "team") if found["metadata"]["name"] == name)


def unchanged(lab: Lab, put: Object, before: Object) -> bool:
    found = named(lab, put["kind"], put["metadata"]["name"])
    return {key: value for key, value in found.items() if key != "status"} == {
        key: value for key, value in before.items() if key != "status"
    }


@pytest.mark.parametrize("labels", [{"llmtrain.io/job": "demo"}, LABELS], ids=["job", "attempt"])
@pytest.mark.parametrize("owners", OTHERS.values(), ids=OTHERS.keys())
async def test_a_pod_that_borrows_the_jobs_label_changes_nothing(labels: dict[str, str], owners: list[Object]) -> None:
    lab = Lab()
    one = lab.submit("demo")
    await lab.run(20)
    put = lab.server.put(pod("spoof", labels, owners), manager="them")
    before = copy.deepcopy(put)
    await lab.run(60)
    await lab.run(600, tick=5)
    assert (lab.status(one)["phase"], lab.status(one)["attempt"]) == ("Running", 1)
    assert lab.status(one)["pods"]["created"] == 2
    assert unchanged(lab, put, before)
    again = lab.submit("later")
    await lab.run(20)
    assert lab.status(again)["attempt"] == 1


@pytest.mark.parametrize("kind", ["ConfigMap", "Service", "NetworkPolicy", "Pod"])
async def test_a_name_that_somebody_else_has_is_told_and_left_to_them_until_it_is_free(kind: str) -> None:
    lab, name = Lab(nodes=6), {"ConfigMap": "demo-a1", "Pod": "demo-a1-0"}.get(kind, "ltj-demo")
    group = {"NetworkPolicy": "networking.k8s.io/v1"}.get(kind, "v1")
    theirs: Object = {"apiVersion": group, "kind": kind, "metadata": {"name": name, "namespace": "team", "labels": {"app": "db"}}}
    theirs |= {"ConfigMap": {"data": {"app.conf": "precious"}}, "Pod": {"spec": {"nodeName": "x", "containers": []}}}.get(
        kind, {"spec": {}}
    )
    theirs |= {"status": {"phase": "Running", "containerStatuses": []}} if kind == "Pod" else {}
    put = lab.server.put(theirs, manager="them")
    before = copy.deepcopy(put)
    one, other = lab.submit("demo"), lab.submit("other", "elsewhere")
    await lab.run(1800, tick=5)
    status = lab.status(one)
    assert status["phase"] == "Pending" and f"{kind} {name} of namespace team belongs to somebody else" in status["message"]
    assert f"kubectl -n team delete {kind.lower()} {name}" in status["message"] and "another name" in status["message"]
    assert any(event.startswith("NameTaken: ") for event in lab.events(one))
    assert lab.status(other)["phase"] == "Running"
    assert unchanged(lab, put, before)
    assert sum(method == "POST" and "/team/" in path for method, path in lab.server.sent) < 150, "5 a minute at the most"
    lab.server.remove(next(path for path, found in lab.server.store.items() if found is put))
    await lab.run(70, tick=5)
    assert lab.status(one)["phase"] == "Running"


async def test_a_second_pod_of_somebody_elses_name_gives_the_first_one_back_and_the_next_attempt_has_other_names() -> None:
    lab = Lab(nodes=3)
    put = lab.server.put(pod("demo-a1-1", {"app": "db"}, []), manager="them")
    before = copy.deepcopy(put)
    one = lab.submit("demo")
    await lab.run(60)
    assert any("Pod demo-a1-1 of namespace team belongs to somebody else" in event for event in lab.events(one))
    assert (lab.status(one)["phase"], lab.status(one)["attempt"]) == ("Running", 2)
    assert unchanged(lab, put, before)


async def test_pods_that_an_earlier_job_left_behind_end_before_the_new_job_starts_from_its_own_manifest() -> None:
    lab = Lab()
    one = lab.submit("demo")
    await lab.run(30)
    old = {found["metadata"]["uid"] for found in lab.pods(one)}
    await lab.delete(lab.job(one), orphan=True)
    await lab.run(30)
    assert {found["metadata"]["uid"] for found in lab.pods()} == old
    lab.kubelets.saves_in = 20.0
    lab.submit("demo", dataset=[{"source": "s3://data/OTHER.jsonl"}])
    await lab.run(5)
    status = lab.status(one)
    assert (status["phase"], status["conditions"][-1]["status"]) == ("Pending", "False")
    assert "Orphaned pods of an earlier job with this name save and end first: demo-a1-0, demo-a1-1." in status["message"]
    await lab.run(60)
    assert lab.status(one)["phase"] == "Running"
    assert not old & {found["metadata"]["uid"] for found in lab.pods()}
    for found in lab.server.find("ConfigMap", "team"):
        assert "OTHER" in found["data"]["trainer.json"]
    await lab.delete(lab.job(one))
    await lab.run(60)
    assert not [found for found in lab.server.store.values() if found["kind"] not in ("Node", "Event")]


async def test_a_finished_pod_that_an_earlier_job_left_behind_goes_too() -> None:
    lab = Lab()
    training: dict[str, Any] = {"globalBatchSize": 8, "sequenceLength": 64, "maxSteps": 10, "precision": "fp32"}
    one = lab.submit("demo", training=training)
    await lab.run(60)
    assert lab.status(one)["phase"] == "Complete"
    await lab.delete(lab.job(one), orphan=True)
    lab.trainers.steps.clear()
    lab.submit("demo", training=training | {"maxSteps": 1_000_000})
    await lab.run(60)
    assert lab.status(one)["phase"] == "Running"
