"""The operator as a process against the real API server and scheduler; kwok runs the pods, so that a gang's life takes seconds."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.cluster import ON_SIMULATED, Cluster
from tests.cluster.operators import Operator, end_all
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster

SHAPE = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 172,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "max_position_embeddings": 64,
}


@pytest.fixture(scope="module")
def simulated(cluster: Any) -> Cluster:
    """The cluster, with nodes that only pretend, and the CRD."""
    if not isinstance(cluster, Cluster):
        pytest.skip("needs kwok's nodes, which only the cluster that these tests start themselves has")
    cluster.add_simulated_nodes(4)
    cluster.define_jobs()
    return cluster


@pytest.fixture
def start(simulated: Cluster, namespace: str, tmp_path: Path) -> Iterator[Callable[..., Operator]]:
    """Starts replicas that watch the test's namespace, and those named, and keep their lease there; ends what still runs."""
    made: list[Operator] = []

    def begin(*others: str) -> Operator:
        made.append(Operator.start(simulated, tmp_path / f"operator-{len(made)}.log", namespace, watched=[namespace, *others]))
        return made[-1]

    yield begin
    end_all(made)


@pytest.fixture
def life(simulated: Cluster, namespace: str) -> Life:
    """The test's namespace."""
    return Life(simulated, namespace)


@pytest.fixture
def elsewhere(simulated: Cluster, namespace: str) -> Iterator[Life]:
    """Another namespace."""
    name = f"{namespace}-b"
    simulated.kubectl("create", "namespace", name)
    yield Life(simulated, name)
    simulated.kubectl("delete", "namespace", name, "--wait=false")


@dataclass
class Life:
    """What a person sees and does in one namespace."""

    cluster: Cluster
    namespace: str

    def apply(self, name: str = "job", **spec: Any) -> None:
        self.cluster.kubectl("apply", "-f", "-", stdin=json.dumps(manifest(self.namespace, name, **spec)))

    def get(self, *what: str) -> Any:
        return json.loads(self.cluster.kubectl("get", "-n", self.namespace, *what, "-o", "json"))

    def status(self, name: str = "job") -> dict[str, Any]:
        return dict(self.get("ltj", name).get("status") or {})

    def phase(self, name: str = "job") -> str | None:
        return self.status(name).get("phase")

    def pods(self, *phases: str) -> set[str]:
        items = self.get("pods", "-l", "llmtrain.io/job")["items"]
        return {pod["metadata"]["name"] for pod in items if not phases or pod["status"]["phase"] in phases}

    def told(self, name: str = "job") -> str:
        """The messages of the events about a job."""
        events = self.get("events", "--field-selector", f"involvedObject.kind=LLMTrainJob,involvedObject.name={name}")["items"]
        return "\n".join(str(event.get("message")) for event in events)

    def uids(self) -> set[str]:
        """Of the pods of jobs."""
        return {pod["metadata"]["uid"] for pod in self.get("pods", "-l", "llmtrain.io/job")["items"]}

    def patch(self, name: str = "job", **spec: Any) -> None:
        self.cluster.kubectl("patch", "ltj", name, "-n", self.namespace, "--type=merge", "-p", json.dumps({"spec": spec}))

    def versions(self) -> dict[str, str]:
        """Every object that the operator may write -> its resourceVersion."""
        items = self.get("ltj,pods,services,configmaps,networkpolicies")["items"]
        return {f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"] for item in items}


def manifest(namespace: str, name: str, **spec: Any) -> dict[str, Any]:
    """A job of two pods that land on simulated nodes."""
    good = {
        "model": {"config": SHAPE},
        "tokenizer": {"train": {"algorithm": "bpe", "vocabSize": 512}},
        "dataset": [{"source": "file:///data/books.txt"}],
        "parallelism": {"tensor": 2, "pipeline": 2},
        "training": {"globalBatchSize": 8, "microBatchSize": 1, "sequenceLength": 64, "maxSteps": 100, "precision": "fp32"},
        "resources": {"nodes": 2, "procsPerNode": 4},
        "scheduling": ON_SIMULATED,
    }
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "llmtrain.io/v1alpha1", "kind": "LLMTrainJob", "metadata": metadata, "spec": good | spec}


def foreign_pod(namespace: str, name: str, labels: dict[str, str]) -> dict[str, Any]:
    """A pod of somebody else, which finds no node."""
    box = {"name": "c", "image": "x", "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}
    context = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
    meta = {"name": name, "namespace": namespace, "labels": labels}
    spec = {"containers": [box], "securityContext": context, "nodeSelector": {"no": "such"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(one for one in status["conditions"] if one["type"] == kind)


def test_a_job_becomes_a_gang_and_when_its_pods_are_done_it_is_complete(life: Life, start: Callable[[], Operator]) -> None:
    start()
    life.apply()
    until(lambda: life.pods("Running") == {"job-a1-0", "job-a1-1"}, "both pods to run")
    assert life.get("service", "ltj-job")["spec"]["clusterIP"] == "None"
    config = json.loads(life.get("configmap", "job-a1")["data"]["trainer.json"])
    assert config["job"]["attempt"] == 1
    status = life.status()
    assert status["attempt"] == 1 and status["plan"]["layout"] == "pp2 dp2 tp2" and condition(status, "Planned")["status"] == "True"
    life.cluster.kubectl("annotate", "pods", "-n", life.namespace, "-l", "llmtrain.io/job=job", "llmtrain.io/completes-after-ms=10")
    life.cluster.kubectl("wait", "-n", life.namespace, "ltj/job", "--for=condition=Complete", "--timeout=60s")
    assert life.phase() == "Complete"


def test_a_deleted_pod_ends_its_whole_gang_before_the_next_one_starts(life: Life, start: Callable[[], Operator]) -> None:
    start()
    life.apply()
    until(lambda: life.pods("Running") == {"job-a1-0", "job-a1-1"} and life.phase() == "Starting", "both pods to run")
    until(lambda: life.status()["pods"]["created"] == 2, "the operator to have seen both")  # else it only completes the gang
    watch = [
        life.cluster.kubectl_path,
        f"--kubeconfig={life.cluster.kubeconfig}",
        "get",
        "pods",
        "-n",
        life.namespace,
        "-w",
        "--output-watch-events",
    ]
    watch += ["-l", "llmtrain.io/job=job", "--no-headers"]
    with subprocess.Popen(watch, stdout=subprocess.PIPE, text=True) as seen:
        try:
            life.cluster.kubectl("delete", "pod", "-n", life.namespace, "job-a1-1", "--wait=false")
            until(lambda: life.pods("Running") == {"job-a2-0", "job-a2-1"}, "the gang of attempt 2")
        finally:
            seen.terminate()
        assert seen.stdout is not None
        told = [line.split()[:2] for line in seen.stdout]
    living: set[str] = set()
    for event, name in told:
        living = living - {name} if event == "DELETED" else living | {name}
        assert len({pod.rsplit("-", 1)[0] for pod in living}) <= 1, f"two attempts at once: {living}"
    status = life.status()
    assert status["attempt"] == 2 and status["restarts"]["total"] == 1 and status["failure"]["attempt"] == 1


def test_a_suspended_job_holds_nothing_and_goes_on_when_resumed(life: Life, start: Callable[[], Operator]) -> None:
    start()
    life.apply()
    until(lambda: life.pods("Running") == {"job-a1-0", "job-a1-1"}, "both pods to run")
    life.patch(suspend=True)
    until(lambda: life.phase() == "Suspended" and not life.pods(), "the pods to be gone")
    life.patch(suspend=False)
    until(lambda: life.pods("Running") == {"job-a2-0", "job-a2-1"}, "the next gang")
    assert life.status()["restarts"]["inWindow"] == 0


def test_everything_of_a_deleted_job_goes_with_it(life: Life, start: Callable[[], Operator]) -> None:
    start()
    life.apply()
    until(lambda: life.pods("Running") == {"job-a1-0", "job-a1-1"}, "both pods to run")
    life.cluster.kubectl("delete", "ltj", "-n", life.namespace, "job")
    until(lambda: set(life.versions()) == {"ConfigMap/kube-root-ca.crt"}, "the garbage collector")


def test_a_job_that_cannot_be_planned_says_so_and_delays_no_other(life: Life, start: Callable[[], Operator]) -> None:
    start()
    life.apply("bad", parallelism={"tensor": 3})
    life.apply("good")
    until(lambda: life.pods("Running") == {"good-a1-0", "good-a1-1"}, "the good job's pods")
    until(lambda: life.phase("bad") == "Pending", "the bad job's status")
    planned = condition(life.status("bad"), "Planned")
    assert planned["status"] == "False" and "spec.parallelism.tensor is 3" in planned["message"], planned
    assert life.pods() == {"good-a1-0", "good-a1-1"}


def test_of_two_jobs_that_name_one_destination_the_second_waits_for_the_first(life: Life, start: Callable[[], Operator]) -> None:
    start()
    checkpoint = {"destination": "s3://bucket/run", "secretName": "s3", "every": {"steps": 10}}
    life.apply("first", checkpoint=checkpoint)
    until(lambda: life.pods("Running") == {"first-a1-0", "first-a1-1"}, "the first gang to run")
    life.apply("second", checkpoint=checkpoint | {"destination": "s3://bucket/run/"})
    until(lambda: life.phase("second") == "Pending", "the second job to wait")
    assert f"Waiting until {life.namespace}/first is over or suspended" in life.status("second")["message"]
    life.patch("first", suspend=True)
    until(lambda: life.pods("Running") == {"second-a1-0", "second-a1-1"}, "the second gang to run once the first is suspended")
    life.patch("first", suspend=False)
    until(lambda: "Waiting until" in life.status("first")["message"], "the first job to wait in its turn")
    assert not any(name.startswith("first-a2") for name in life.pods())


def test_an_operator_that_was_killed_and_started_again_changes_nothing(life: Life, start: Callable[[], Operator]) -> None:
    first = start()
    life.apply()
    until(lambda: life.pods("Running") == {"job-a1-0", "job-a1-1"}, "both pods to run")
    until(lambda: life.status().get("pods", {}).get("running") == 2, "the status to know")
    before = life.versions()
    first.end(signal.SIGKILL)
    second = start()
    until(second.reconciled, "the second operator to look at the job")
    assert life.versions() == before


def test_a_standby_takes_over_at_once_from_one_that_was_told_to_end(life: Life, start: Callable[[], Operator]) -> None:
    first = start()
    until(lambda: first.says(" leads"), "the first replica to lead")
    second, leader = start(), holder(life)
    assert not second.says(" leads") and leader
    assert first.end() == 0
    assert holder(life) != leader, "the lease was not given back"
    until(lambda: second.says(" leads"), "the second replica to lead")
    life.apply()
    until(lambda: life.pods("Running") == {"job-a1-0", "job-a1-1"}, "both pods to run")


def holder(life: Life) -> str:
    """Who has the lease; nothing where it was given back."""
    return life.cluster.kubectl("get", "lease", "llmtrain-operator", "-n", life.namespace, "-o", "jsonpath={.spec.holderIdentity}")


def test_two_gangs_are_placed_one_after_the_other_and_one_without_a_node_gives_way(life: Life, start: Callable[[], Operator]) -> None:
    start()
    life.apply("first", scheduling={"nodeSelector": {"type": "nowhere"}})
    until(lambda: life.pods() == {"first-a1-0", "first-a1-1"}, "the first gang to wait for nodes")
    life.apply("second")
    until(lambda: life.pods("Running") == {"second-a1-0", "second-a1-1"}, "the second gang")
    until(lambda: "Waiting for its turn: the pods of first are placed first" in life.told("second"), "the events to say so")
    until(lambda: "Giving way to second" in life.told("first"), "and of the first job too")


def test_a_job_whose_pods_a_quota_refuses_holds_up_no_gang_of_another_namespace(
    life: Life, elsewhere: Life, start: Callable[..., Operator]
) -> None:
    start(elsewhere.namespace)
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": elsewhere.namespace}}
    for name, most, nodes in (("none", "0", 1), ("half", "1", 2)):
        hard = json.dumps({**quota, "spec": {"hard": {"pods": most}}})
        life.cluster.kubectl("apply", "-f", "-", stdin=hard)
        elsewhere.apply(name, resources={"nodes": nodes, "procsPerNode": 8 // nodes})
        until(lambda name=name: "QuotaExceeded" in json.dumps(elsewhere.status(name)), f"{name} to be refused")
        life.apply(f"beside-{name}")
        until(lambda name=name: {f"beside-{name}-a1-0", f"beside-{name}-a1-1"} <= life.pods("Running"), "the gang beside")
        elsewhere.cluster.kubectl("delete", "ltj", name, "-n", elsewhere.namespace)


def test_pods_and_objects_of_others_under_the_jobs_names_are_left_alone_and_named(life: Life, start: Callable[[], Operator]) -> None:
    start()
    life.apply()
    until(lambda: life.pods("Running") == {"job-a1-0", "job-a1-1"}, "both pods to run")
    borrowed = {"llmtrain.io/job": "job", "llmtrain.io/attempt": "999999999999", "llmtrain.io/index": "0"}
    life.cluster.kubectl("create", "-f", "-", stdin=json.dumps(foreign_pod(life.namespace, "spoof", borrowed)))
    life.cluster.kubectl("create", "configmap", "app-a1", "-n", life.namespace, "--from-literal=owner=me")
    before = life.get("configmap", "app-a1")
    life.apply("app")
    until(
        lambda: f"ConfigMap app-a1 of namespace {life.namespace} belongs to" in str(life.status("app").get("message")),
        "the name to be told",
    )
    assert life.get("configmap", "app-a1") == before
    assert life.pods() == {"job-a1-0", "job-a1-1", "spoof"} and life.status()["attempt"] == 1
    life.cluster.kubectl("delete", "configmap", "app-a1", "-n", life.namespace)
    until(lambda: {"app-a1-0", "app-a1-1"} <= life.pods("Running"), "the job to go on by itself")


def test_a_job_created_anew_does_not_take_the_orphans_of_the_old_one(life: Life, start: Callable[[], Operator]) -> None:
    start()
    life.apply()
    until(lambda: life.pods("Running") == {"job-a1-0", "job-a1-1"}, "both pods to run")
    old = life.uids()
    life.cluster.kubectl("delete", "ltj", "job", "-n", life.namespace, "--cascade=orphan")
    life.apply(training={"globalBatchSize": 16, "microBatchSize": 1, "sequenceLength": 64, "maxSteps": 100, "precision": "fp32"})
    until(lambda: len(life.uids() - old) == 2, "the pods of the new job")
    assert not life.uids() & old and '"globalBatchSize":16' in life.get("configmap", "job-a1")["data"]["trainer.json"]
    life.cluster.kubectl("delete", "ltj", "-n", life.namespace, "job")
    until(lambda: set(life.versions()) == {"ConfigMap/kube-root-ca.crt"}, "everything to go with the job")


def test_a_job_that_is_never_placed_holds_no_destination(life: Life, elsewhere: Life, start: Callable[..., Operator]) -> None:
    start(elsewhere.namespace)
    there = {"checkpoint": {"destination": "s3://team-b-bucket/prod-run"}}
    elsewhere.apply("squat", scheduling={"nodeSelector": {"no": "such"}}, **there)
    until(lambda: elsewhere.pods() == {"squat-a1-0", "squat-a1-1"}, "the first job to wait for nodes")
    life.apply("prod", **there)
    until(lambda: life.pods("Running") == {"prod-a1-0", "prod-a1-1"}, "the other job")
    assert "squat" not in json.dumps(life.status("prod")) + life.told("prod")
