"""Every kind of restart slows down, and what it leaves behind is bounded."""

from __future__ import annotations

import pytest
from tests.operator.lab.kubelets import SAVED, Exit, said
from tests.operator.lab.lab import Lab
from tests.operator.lab.trainers import label

from llmtrain_operator.kube.api.client import Object
from llmtrain_operator.life.from_objects import LABEL_INDEX

pytestmark = pytest.mark.long

SHORT = {"globalBatchSize": 8, "sequenceLength": 64, "maxSteps": 100, "precision": "fp32"}
EVICTED = Exit(code=75, verdict=SAVED.verdict, disruption="EvictionByEvictionAPI")
KINDS = {
    "a drain": EVICTED,
    "preemption": Exit(code=75, verdict=SAVED.verdict, disruption="PreemptionByScheduler"),
    "a queue": Exit(code=75, verdict=SAVED.verdict, disruption="WorkloadEvictedDueToPreempted"),
    "a node that shuts down": Exit(code=143, disruption="TerminationByKubelet"),
    "probes": SAVED,
    "probes and no time to save": said(143, "StoppedUnsaved", "Told to stop."),
    "a kill": Exit(code=137),
    "a crash": Exit(code=139),
    "a rank": said(1, "RankFailed", "Rank 0 failed."),
    "a store that is away": said(74, "StoreUnreachable", "The checkpoint store failed."),
    "memory": Exit(code=137, reason="OOMKilled"),
    "disk": Exit(code=137, evicted="The node was low on resource: ephemeral-storage."),
}


@pytest.mark.parametrize(("kind", "trains"), [*((kind, True) for kind in KINDS), ("a drain", False), ("probes", False)])
async def test_a_gang_that_ends_seconds_after_each_start_comes_back_ever_slower(kind: str, trains: bool) -> None:
    lab = Lab(ends=lambda pod: KINDS[kind] if lab.kubelets.age(pod) > 20 and label(pod, LABEL_INDEX) == "0" else None)
    lab.trainers.step_seconds = float(trains)
    one = lab.submit("one")
    await lab.run(4000, tick=5)
    assert lab.status(one)["attempt"] <= 21
    assert len(lab.server.find("ConfigMap")) <= 1 and len(lab.pods()) <= 4
    assert lab.requests("POST", "/pods") <= 42 and lab.requests("POST", "/events") <= 200


async def test_a_gang_that_trained_for_long_comes_back_at_once_after_each_drain() -> None:
    lab = Lab(ends=lambda pod: EVICTED if lab.kubelets.age(pod) > 1200 else None)
    one = lab.submit("one")
    await lab.run(2 * 3600, tick=10)
    assert 5 <= lab.status(one)["attempt"] <= 6
    assert lab.status(one)["restarts"]["interruptions"] == 1


async def test_probes_that_kill_healthy_agents_are_named_and_end_at_the_budget() -> None:
    lab = Lab(ends=lambda pod: kill(pod) if lab.kubelets.age(pod) > 300 else None)
    lab.trainers.silent = True

    def kill(pod: Object) -> Exit:
        meta = {"name": f"{pod['metadata']['name']}.17", "namespace": "team"}
        about = {"kind": "Pod", "name": pod["metadata"]["name"], "namespace": "team"}
        warned = {"type": "Warning", "reason": "Unhealthy", "message": "Liveness probe failed: connection refused"}
        lab.server.put({"apiVersion": "v1", "kind": "Event", "metadata": meta, "involvedObject": about, **warned})
        return SAVED

    one = lab.submit("one", resilience={"restarts": {"max": 6}})
    await lab.run(5400, tick=10)
    status = lab.status(one)
    assert (status["phase"], status["attempt"], status["failure"]["reason"]) == ("Failed", 7, "StoppedFromOutside")
    assert "Unhealthy: Liveness probe failed: connection refused" in status["message"] and "budget" in status["message"]
    assert len(status["avoidedNodes"]) <= 1, "what follows the job from node to node is not the nodes' doing"


async def test_a_pod_that_somebody_deletes_is_no_kubelet_that_kills() -> None:
    lab = Lab()
    one = lab.submit("one")
    await lab.run(60)
    await lab.delete(lab.pods(one)[1])
    await lab.run(60)
    assert (lab.status(one)["phase"], lab.status(one)["failure"]["reason"]) == ("Running", "PodDeleted")


@pytest.mark.parametrize("groups", [{}, {"scheduling.volcano.sh": "scheduling.volcano.sh/v1beta1"}])
@pytest.mark.parametrize("end", ["complete", "failed", "suspended"])
async def test_objects_of_attempts_that_are_over_go_when_the_job_rests(end: str, groups: dict[str, str]) -> None:
    outs = [EVICTED, EVICTED, said(2, "BadConfig", "No.") if end == "failed" else None]

    def ends(pod: Object) -> Exit | None:
        attempt = int(label(pod, "llmtrain.io/attempt"))
        return outs[attempt - 1] if attempt <= 3 and lab.kubelets.age(pod) > 20 else None

    lab = Lab(ends=ends, groups=groups)
    one = lab.submit("one", training=SHORT if end == "complete" else {**SHORT, "maxSteps": 100_000})
    foreign = {"name": "theirs", "namespace": "team", "labels": {"llmtrain.io/job": "one", "llmtrain.io/attempt": "1"}}
    lab.server.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": foreign, "data": {}})
    await lab.run(300)
    if end == "suspended":
        assert len(lab.server.find("PodGroup")) == len(groups)
        lab.edit(one, suspend=True)
        await lab.run(60)
    assert lab.status(one)["phase"].lower() == end
    assert [found["metadata"]["name"] for found in lab.server.find("ConfigMap")] == ["theirs"]
    assert lab.server.find("PodGroup") == []
    assert {pod["metadata"]["name"] for pod in lab.pods(one)} <= {"one-a3-0", "one-a3-1"}
