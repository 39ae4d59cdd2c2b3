"""Why a job is not running, on real kubelets: each cause is one sentence, in the status, in the condition Running and in `llmtrain why`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.cluster.cluster import Cluster
from tests.cluster.operators import Operator
from tests.cluster.waiting import until

from llmtrain_operator.cli.app import invoke

pytestmark = pytest.mark.cluster

SHAPE = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 172,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 512,
    "max_position_embeddings": 64,
}


def manifest(name: str, image: str, **spec: Any) -> dict[str, Any]:
    """A job of one pod."""
    scheduling = {"image": image, **spec.pop("scheduling", {})}
    good = {
        "model": {"config": SHAPE},
        "tokenizer": {"train": {"algorithm": "bpe", "vocabSize": 512}},
        "dataset": [{"source": "file:///data/books.txt"}],
        "training": {"globalBatchSize": 8, "sequenceLength": 64, "maxSteps": 100, "precision": "fp32"},
        "scheduling": scheduling,
    }
    return {"apiVersion": "llmtrain.io/v1alpha1", "kind": "LLMTrainJob", "metadata": {"name": name}, "spec": good | spec}


def claim(name: str, volume: str) -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": volume, "resources": {"requests": {"storage": "1Mi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def objects(namespace: str) -> list[dict[str, Any]]:
    """A quota of four GPUs, a claim without a volume, and one whose volume is broken."""
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "four"}, "spec": {"hard": {"requests.nvidia.com/gpu": "4"}}}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": namespace},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Mi"},
            "hostPath": {"path": "/nowhere", "type": "Directory"},
            "claimRef": {"namespace": namespace, "name": "broken"},
        },
    }
    return [quota, volume, claim("unbound", "no-such-volume"), claim("broken", namespace)]


GPUS = {"nodes": 1, "gpusPerNode": 8, "gpu": "H100-80GB"}
CASES: dict[str, tuple[dict[str, Any], str, str]] = {
    "no-node": ({"resources": {"nodes": 1, "cpu": "1000"}}, "Unschedulable", "The pod is waiting for a node: 0/"),
    "no-image": ({"scheduling": {"image": "{registry}/absent:1"}}, "ImagePullFailed", "The image of the pod cannot be pulled: "),
    "no-secret": (
        {"checkpoint": {"destination": "s3://bucket/x", "secretName": "absent"}},
        "SecretMissing",
        "The secret absent does not exist in namespace {namespace}; create it and the job continues.",
    ),
    "no-claim": (
        {"dataset": [{"source": "pvc://absent/a.txt"}]},
        "VolumeMissing",
        "The pod is waiting for a node: the volume claim absent does not exist.",
    ),
    "no-volume": (
        {"dataset": [{"source": "pvc://unbound/a.txt"}]},
        "VolumeUnbound",
        "The pod is waiting for a node: a volume claim has no volume yet.",
    ),
    "no-mount": (
        {"dataset": [{"source": "pvc://broken/a.txt"}]},
        "VolumeNotMounted",
        "A volume of pod no-mount-a1-0 cannot be mounted: ",
    ),
    "no-quota": (
        {"resources": GPUS},
        "QuotaExceeded",
        "Quota four of namespace {namespace} has no room for the pods: a pod requests requests.nvidia.com/gpu=8, "
        "requests.nvidia.com/gpu=0 is used and requests.nvidia.com/gpu=4 is the limit.",
    ),
    "no-priority": (
        {"scheduling": {"priorityClassName": "gold"}},
        "PriorityClassMissing",
        "The priority class gold does not exist in this cluster.",
    ),
    "no-account": (
        {"scheduling": {"serviceAccountName": "bot"}},
        "ServiceAccountMissing",
        "The service account bot does not exist in namespace {namespace}.",
    ),
    "no-plan": ({"parallelism": {"tensor": 3}}, "Refused", "spec.parallelism.tensor is 3: "),
    "no-trainer": ({}, "ContainerNotStarted", 'could not start its container: exec: "python": executable file not found in $PATH.'),
    "paused": ({"suspend": True}, "Suspended", "Suspended; nothing runs."),
}
"""Name of the job -> what is odd in its spec, the reason, and how the sentence begins, or what it holds."""


@pytest.fixture(scope="module")
def place(cluster: Any) -> Iterator[tuple[Cluster, str]]:
    """The cluster with the CRD, and a namespace in which all jobs of this file are."""
    if not isinstance(cluster, Cluster):
        pytest.skip("needs a node without hostPath /nowhere and an operator in the nodes' network, as on the cluster of these tests")
    cluster.define_jobs()
    namespace = f"why-{time.time_ns()}"
    cluster.kubectl("create", "namespace", namespace)
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    apply(cluster, namespace, *objects(namespace))
    until(lambda: "default" in cluster.kubectl("get", "serviceaccount", "-n", namespace, "-o", "name"), "the service account")
    yield cluster, namespace
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")
    cluster.kubectl("delete", "pv", namespace, "--wait=false")


@pytest.fixture(scope="module")
def operator(place: tuple[Cluster, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """An operator at work, and one job for each cause, submitted at once."""
    cluster, namespace = place
    log = tmp_path_factory.mktemp("why") / "operator.log"
    started = Operator.start(cluster, log, namespace, watched=[namespace])
    jobs = json.dumps([manifest(name, cluster.probe, **spec) for name, (spec, _, _) in CASES.items()])
    apply(cluster, namespace, *json.loads(jobs.replace("{registry}", cluster.registry)))
    yield started
    started.end()
    print(log.read_text())


@pytest.fixture
def llmtrain(place: tuple[Cluster, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command in the namespace of these jobs and returns what it printed."""
    monkeypatch.setenv("KUBECONFIG", str(place[0].kubeconfig))

    def run(*arguments: str) -> str:
        code = invoke([*arguments, "-n", place[1]])
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return captured.out

    return run


def apply(cluster: Cluster, namespace: str, *made: dict[str, Any]) -> None:
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(made)}))


@pytest.mark.parametrize("name", CASES)
def test_a_job_that_does_not_run_says_why(place: tuple[Cluster, str], operator: Operator, llmtrain: Callable[..., str], name: str) -> None:
    cluster, namespace = place
    _, reason, words = CASES[name]
    words = words.replace("{namespace}", namespace)

    def status() -> dict[str, Any]:
        found = json.loads(cluster.kubectl("get", "ltj", name, "-n", namespace, "-o", "json")).get("status") or {}
        return dict(found)

    def told() -> bool:
        running = next((one for one in status().get("conditions") or () if one["type"] == "Running"), {})
        return running.get("reason") == reason and running.get("message") == status()["message"]

    until(told, f"reason {reason} of {name}; it is {status()}")
    seen = status()
    assert words in seen["message"] and seen["message"].endswith(".") and ",." not in seen["message"], seen["message"]

    def agreed() -> bool:
        return llmtrain("why", name).startswith(f"{name} is {status()['phase']}: {seen['message']}\n")

    until(agreed, f"`why` and the status to agree on {seen}")
    assert "what to do" in llmtrain("why", name)


def test_without_an_operator_the_objects_still_say_why(
    place: tuple[Cluster, str], operator: Operator, llmtrain: Callable[..., str]
) -> None:
    cluster, namespace = place
    operator.end()
    old = {"spec": {"renewTime": "2020-01-01T00:00:00.000000Z"}}
    cluster.kubectl("patch", "lease", "llmtrain-operator", "-n", namespace, "--type=merge", "-p", json.dumps(old))
    others = "app.kubernetes.io/component=operator", f"--field-selector=metadata.namespace!={namespace}"
    cluster.kubectl("delete", "leases", "-A", "-l", *others)  # of operators that other tests have just ended
    apply(cluster, namespace, manifest("late", cluster.probe))
    assert llmtrain("why", "late").startswith("late is Pending: No operator is at work: its lease llmtrain-operator in namespace ")
    assert llmtrain("why", "no-claim").startswith("no-claim is Starting: The pod is waiting for a node: the volume claim absent does not ")
