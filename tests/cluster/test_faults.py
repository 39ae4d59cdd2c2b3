"""One job in real pods, and everything that may befall it on a cluster, one after another: it trains on as if nothing had happened.

The tests follow each other on the same job and end with its completion. What it trained is compared with an undisturbed run, step by step;
two attempts were never there at once. docs/operations/faults.md has the seconds that each fault cost.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.cluster.addresses import NODES
from tests.cluster.cluster import ON_SIMULATED, Cluster
from tests.cluster.image.build import Images
from tests.cluster.operators import Operator
from tests.cluster.release import NAME, NAMESPACE, Release
from tests.cluster.trained_job import TrainedJob, kill_pod, make_bucket, manifest, processes_of
from tests.cluster.waiting import until

from llmtrain_trainer.config import ExitCode

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

STEPS, EVERY = 400, 10
OUTAGE = float(os.environ.get("LLMTRAIN_TEST_OUTAGE_SECONDS", "60"))
"""How long the API server is away."""

GPUS = 8


@dataclass(frozen=True)
class Scene:
    """The job that faults befall, an undisturbed one, and one that holds GPUs."""

    cluster: Cluster
    release: Release
    images: Images
    job: TrainedJob
    undisturbed: TrainedJob
    holder: TrainedJob

    def events(self) -> str:
        """Reasons of the events on the job."""
        selector = f"involvedObject.kind=LLMTrainJob,involvedObject.name={self.job.name}"
        return self.cluster.kubectl(
            "get", "events", "-n", self.job.namespace, "--field-selector", selector, "-o", "jsonpath={.items[*].reason}"
        )


@pytest.fixture(scope="module")
def scene(cluster: Any, images: Images, installed: Release) -> Iterator[Scene]:
    """llmtrain installed by helm, the undisturbed job complete, and the other one training slowly."""
    if not isinstance(cluster, Cluster):
        pytest.skip("stops components of the cluster, which only works on the one that these tests start themselves")
    namespace = f"faults-{time.time_ns()}"
    cluster.kubectl("create", "namespace", namespace)
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    make_bucket(cluster, namespace)
    cluster.add_simulated_nodes(1)
    undisturbed = TrainedJob.apply(cluster, manifest(namespace, "undisturbed", STEPS, STEPS))
    job = TrainedJob.apply(cluster, manifest(namespace, "job", STEPS, EVERY))
    holder = TrainedJob.apply(cluster, on_simulated_gpus(namespace))
    made = Scene(cluster, installed, images, job, undisturbed, holder)
    try:
        job.until_steps(1, 0, 500)
        job.brake()
        until(lambda: undisturbed.status().get("phase") == "Complete", "the undisturbed job to be complete", 500)
        yield made
    finally:
        for each in (job, undisturbed, holder):
            each.release()
            each.recorder.end()
    print(cluster.kubectl("get", "events", "-n", namespace, "--sort-by=.lastTimestamp", check=False))
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")


@pytest.fixture
def tell(scene: Scene, request: pytest.FixtureRequest) -> Callable[[float], None]:
    """Says what a fault cost that began at a moment."""

    def say(since: float) -> None:
        print(f"{request.node.name}: the longest wait for a step was {scene.job.recorder.pause(since):.1f} s")

    return say


def on_simulated_gpus(namespace: str) -> dict[str, Any]:
    made = manifest(namespace, "holder", 100, 100)
    made["spec"] |= {
        "parallelism": {},
        "training": made["spec"]["training"] | {"microBatchSize": 1},
        "resources": {"nodes": 1, "gpusPerNode": GPUS, "gpu": "H100-80GB"},
        "scheduling": ON_SIMULATED,
    }
    return made


def test_a_rank_that_is_killed_starts_again_in_its_pod(scene: Scene, tell: Callable[[float], None]) -> None:
    job = scene.job
    before = job.pods()
    with job.at_full_speed() as now:
        until(lambda: job.recorder.steps[-1].number > 3 * EVERY, "some checkpoints")
        job.rank(1, before[job.pod(1)]).kill()
        until(lambda: started_again(job, before[job.pod(0)]), "the ranks to start again")
        job.until_steps(5, time.time())
    tell(now)
    assert job.pods() == before
    until(lambda: "RestartInPlace" in scene.events(), "the event that says so")


def started_again(job: TrainedJob, uid: str) -> bool:
    """Whether the agent of node 0 has said that the ranks go on from a checkpoint."""
    events = job.recorder.scratch(uid) / "events.jsonl"
    return any(json.loads(line)["kind"] == "restore" for line in events.read_text().splitlines())


def test_an_operator_that_is_killed_is_followed_by_another_and_no_pod_changes(scene: Scene, tell: Callable[[float], None]) -> None:
    before, leader, now = scene.job.pods(), identity(scene), time.time()
    pod = next(pod for pod in scene.release.pods() if leader.startswith(f"{pod['metadata']['name']}-"))
    for process in processes_of(pod["metadata"]["uid"]):
        with suppress(psutil.Error):  # what runs beside the container's first process goes with it
            if "llmtrain_operator" in " ".join(process.cmdline()):
                process.kill()
    until(lambda: identity(scene) not in ("", leader), "another leader")
    print(f"another led {time.time() - now:.0f} s after the leader was killed")
    scene.job.until_steps(5, time.time())
    tell(now)
    assert scene.job.pods() == before


def identity(scene: Scene) -> str:
    return scene.cluster.kubectl("get", "lease", NAME, "-n", NAMESPACE, "-o", "jsonpath={.spec.holderIdentity}")


def test_an_upgrade_of_the_operator_changes_no_pod_even_where_it_would_make_others(scene: Scene, tell: Callable[[float], None]) -> None:
    before, replicas, now = scene.job.pods(), {pod["metadata"]["name"] for pod in scene.release.pods()}, time.time()
    newer = {"podAnnotations": {"upgraded": "yes"}, "trainerEnvironment": {"UPGRADED": "yes"}}
    scene.release.install(image=scene.images.operator, trainerImage=scene.images.trainer, **newer)
    until(lambda: bool(scene.release.leader()) and scene.release.leader() not in replicas, "a new replica to lead")
    scene.job.until_steps(5, time.time())
    tell(now)
    assert scene.job.pods() == before


def test_training_goes_on_while_the_api_server_is_away(scene: Scene, tell: Callable[[float], None]) -> None:
    before, now = scene.job.pods(), time.time()
    scene.cluster.stop("kube-apiserver", signal.SIGKILL)
    time.sleep(OUTAGE)
    scene.job.until_steps(5, now + 2)
    scene.cluster.start("kube-apiserver")
    until(lambda: scene.cluster.kubectl("get", "--raw", "/readyz", check=False) == "ok", "the API server to be back")
    back = time.time()
    for name in (
        "kube-controller-manager",
        "kube-scheduler",
    ):  # where several elect a leader they end by themselves; here they would back off
        scene.cluster.stop(name)
        scene.cluster.start(name)
    until(lambda: renewed(scene) > stamp(back), "an operator to lead again")
    print(f"an operator led {time.time() - back:.0f} s after the API server was back")
    until_nodes_take_pods(scene)
    tell(now)
    assert scene.job.pods() == before


def renewed(scene: Scene) -> str:
    return scene.cluster.kubectl("get", "lease", NAME, "-n", NAMESPACE, "-o", "jsonpath={.spec.renewTime}")


def stamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def test_training_goes_on_on_a_node_whose_kubelet_is_away(scene: Scene, tell: Callable[[float], None]) -> None:
    before, node, now = scene.job.pods(), scene.job.node(scene.job.pod(1)), time.time()
    scene.cluster.stop(f"kubelet-{node}", signal.SIGKILL)
    until(lambda: not scene.cluster.ready(node), "the node to be NotReady")
    scene.job.until_steps(10, time.time())
    scene.cluster.start(f"kubelet-{node}")
    until_nodes_take_pods(scene)
    tell(now)
    assert scene.job.pods() == before
    restarts = scene.job.status()["restarts"]
    assert restarts["total"] == restarts["inPlace"], restarts


def until_nodes_take_pods(scene: Scene) -> None:
    """Wait until both nodes are Ready, and their taints are gone, which comes later."""
    taints = ("get", "nodes", *NODES, "-o", "jsonpath={.items[*].spec.taints}")
    until(lambda: all(map(scene.cluster.ready, NODES)) and not scene.cluster.kubectl(*taints).strip(), "both nodes to take pods")


def test_two_operators_that_both_lead_start_one_gang_after_a_pod_was_deleted(
    scene: Scene, tmp_path: Path, tell: Callable[[float], None]
) -> None:
    job, ended = scene.job, scene.job.attempt()
    more = ["--trainer-image", scene.images.trainer]
    second = Operator.start(scene.cluster, tmp_path / "second.log", job.namespace, watched=[job.namespace], more=more)
    try:
        second.leads()
        until(second.reconciled, "the second operator to look at the job")
        with job.at_full_speed() as now:
            scene.cluster.kubectl("delete", "pod", "-n", job.namespace, job.pod(1), "--wait=false")
            until_trains(job, ended + 1)
        tell(now)
    finally:
        second.end()
        print(second.log.read_text())
    status = job.status()
    assert status["failure"]["attempt"] == ended, status
    assert status["restarts"]["total"] == status["restarts"]["inPlace"] + 1, status


def until_trains(job: TrainedJob, attempt: int) -> None:
    """Wait until pod 0 of an attempt has done some steps."""
    name = job.pod(0, attempt)
    until(lambda: name in job.pods(), f"the pods of attempt {attempt}", 500)
    uid = job.pods()[name]
    until(lambda: sum(step.uid == uid for step in list(job.recorder.steps)) >= 5, f"steps of attempt {attempt}")


def test_a_pod_that_is_killed_is_soon_followed_by_a_new_gang(scene: Scene, tell: Callable[[float], None]) -> None:
    job, ended = scene.job, scene.job.attempt()
    with job.at_full_speed() as now:
        kill_pod(job.pods()[job.pod(1)])
        until(lambda: job.pod(0, ended + 1) in job.pods(), "the pods of the next gang")
        print(f"the next pods were created {time.time() - now:.1f} s after the kill")
        until_trains(job, ended + 1)
    tell(now)
    codes = {seen.exit_code for seen in job.recorder.seen if seen.name == job.pod(0, ended) and seen.ended}
    print(f"the other pod ended with {codes}")
    assert 128 + signal.SIGKILL not in codes, "it did not end by itself when it was told to"
    failure = job.status()["failure"]
    assert (failure["attempt"], failure["reason"]) == (ended, "Killed"), failure


def test_a_node_that_died_is_given_up_and_its_gang_starts_elsewhere(scene: Scene, tell: Callable[[float], None]) -> None:
    job, ended = scene.job, scene.job.attempt()
    node = job.node(job.pod(1))
    there = [uid for pod, uid in job.pods().items() if job.node(pod) == node]
    with job.at_full_speed() as now:
        scene.cluster.stop(f"kubelet-{node}", signal.SIGKILL)
        for uid in there:
            kill_pod(uid)
        until_trains(job, ended + 1)
    tell(now)
    placed = {job.node(job.pod(index)) for index in range(2)}
    scene.cluster.start(f"kubelet-{node}")
    until_nodes_take_pods(scene)
    status = job.status()
    failure, goodput = status["failure"], status["goodput"]
    assert placed == set(NODES) - {node}
    assert failure["reason"] == "NodeLost" and node in failure["message"], failure
    since = scene.cluster.kubectl("get", "ltj", "-n", job.namespace, job.name, "-o", "jsonpath={.metadata.creationTimestamp}")
    lived = seconds(goodput["accountedUntil"]) - seconds(since)
    assert abs(goodput["totalSeconds"] - lived) < 3, (goodput, lived)
    trained, booked = job.recorder.trained(), sum(goodput["byCause"].get(cause, 0) for cause in ("productive", "recompute", "checkpoint"))
    assert abs(booked - trained) < 10 + trained / 5, (goodput, trained)


def test_a_job_that_is_deleted_and_created_anew_goes_on_from_its_checkpoints(scene: Scene, tell: Callable[[float], None]) -> None:
    job, kubectl, stored = scene.job, scene.cluster.kubectl, scene.job.attempt()
    assert stored > 1, "an earlier test started a gang anew"
    with job.at_full_speed() as now:
        kubectl("delete", "ltj", "-n", job.namespace, job.name, "--cascade=foreground", "--timeout=300s")
        kubectl("apply", "-f", "-", stdin=json.dumps(manifest(job.namespace, job.name, STEPS, EVERY)))
        applied = time.time()
        until(lambda: job.status().get("attempt", 0) > 1, "the attempt after the one that was fenced")
        print(f"the fenced attempt took {time.time() - applied:.0f} s")
        until_trains(job, stored + 1)
    tell(now)
    failure = job.status()["failure"]
    assert failure["reason"] == "Fenced" and failure["attempt"] == 1, failure
    assert ExitCode.FENCED in {seen.exit_code for seen in job.recorder.seen}


def test_what_was_trained_is_what_an_undisturbed_run_trains_and_no_two_attempts_were_there_at_once(scene: Scene) -> None:
    job = scene.job
    job.release()
    until(lambda: job.status().get("phase") == "Complete", "the job to be complete", 500)
    expected = {step.number: step.loss for step in scene.undisturbed.recorder.steps}
    trained = job.recorder.steps
    assert len(expected) == STEPS and {step.number for step in trained} == set(expected)
    different = [(step.number, step.loss, expected[step.number]) for step in trained if step.loss != expected[step.number]]
    assert not different, different[:5]
    assert job.recorder.gangs_at_once() == 1
    assert all(seen.restarts == 0 for seen in job.recorder.seen)
    print(f"{len(trained) - STEPS} steps of {STEPS} were trained again")


def test_gpu_hours_count_every_second_over_every_fault(scene: Scene) -> None:
    holder = scene.holder
    kubectl = scene.cluster.kubectl
    pod = json.loads(kubectl("get", "pod", "-n", holder.namespace, "holder-a1-0", "-o", "json"))
    placed = next(one["lastTransitionTime"] for one in pod["status"]["conditions"] if one["type"] == "PodScheduled")
    kubectl("patch", "ltj", holder.name, "-n", holder.namespace, "--type=merge", "-p", '{"spec":{"suspend":true}}')
    until(lambda: holder.status().get("phase") in ("Suspending", "Suspended"), "the account to be written")
    account = holder.status()["goodput"]
    held = seconds(account["accountedUntil"]) - seconds(placed)
    assert abs(account["gpuHours"] * 3600 / GPUS - held) < 5 + held / 20, (account, held)
    assert abs(sum(account["byCause"].values()) - account["totalSeconds"]) < 1, account


def seconds(time_of: str) -> float:
    return time.mktime(time.strptime(time_of, "%Y-%m-%dT%H:%M:%SZ")) - time.timezone
