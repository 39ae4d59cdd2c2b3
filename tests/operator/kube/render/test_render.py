"""Rendering: whole objects against golden files, and claims that hold for every one of them. UPDATE_GOLDEN=1 writes the files anew."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from llmtrain_operator.kube import names
from llmtrain_operator.kube.render.config_map import FILE, SECRET
from llmtrain_operator.kube.render.pod import MARGIN, save_seconds
from llmtrain_operator.kube.render.render import Objects, render
from llmtrain_operator.kube.render.volumes import claims
from llmtrain_operator.kube.render_settings import RenderSettings
from llmtrain_operator.life.from_objects import pod_of
from llmtrain_operator.life.observed import GangKind
from llmtrain_operator.manifest.parse import parse_manifest
from llmtrain_operator.plan.plan import plan
from llmtrain_operator.sources import read_shape
from llmtrain_trainer.__main__ import _parser as trainer_parser
from llmtrain_trainer.config import TrainerConfig, mounts

ROOT = Path(__file__).parents[4]
GOLDEN = ROOT / "tests/operator/golden"
CLUSTER = RenderSettings(image="registry.example/llmtrain-trainer:1", metrics_namespaces=("monitoring",))
UID = "0b6f1c1e-0000-4000-8000-000000000001"


def manifest(example: str, **changes: Any) -> str:
    """An example's text with relative paths made absolute, and sections of spec laid over it."""
    document = yaml.safe_load((ROOT / "examples" / example).read_text().replace("file://../out", "file:///data"))
    for section, value in changes.items():
        document["spec"][section] = {**document["spec"].get(section, {}), **value} if isinstance(value, dict) else value
    return yaml.safe_dump(document)


def rendered(text: str, gang: GangKind = "operator", attempt: int = 1, avoid: tuple[str, ...] = ()) -> Objects:
    job = parse_manifest(text)
    return render(
        job, plan(job, read_shape(job.spec.model)), attempt, CLUSTER, uid=UID, gang=gang, avoid=avoid, secret="drawn for this attempt"
    )


TWO_NODES = manifest("01-demo-2x2x2.yaml", resources={"nodes": 2, "procsPerNode": 4, "cpu": "500m", "memory": "4Gi"})
LLAMA = manifest(
    "03-llama3-8b-2x4x4.yaml",
    scheduling={
        "priorityClassName": "training",
        "nodeSelector": {"pool": "h100"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "serviceAccountName": "trainer",
        "imagePullSecrets": ["registry"],
        "topology": {"required": "topology.kubernetes.io/rack"},
    },
    resources={"nodes": 4, "gpusPerNode": 8, "gpu": "H100-80GB", "memory": "1500Gi", "rdma": {"rdma/hca": 8}},
)
QUEUED = manifest(
    "01-demo-2x2x2.yaml",
    resources={"nodes": 2, "procsPerNode": 4},
    scheduling={"queue": "team-a", "topology": {"preferred": "topology.kubernetes.io/rack"}},
    checkpoint={"destination": "pvc://runs/demo", "every": {"steps": 20}, "keep": 2},
)

CASES: dict[str, tuple[str, GangKind, int, tuple[str, ...]]] = {
    "2x2x2-on-two-nodes": (TWO_NODES, "operator", 1, ()),
    "llama-2x4x4": (LLAMA, "coscheduling", 3, ("node-7", "node-2")),
    "kueue": (QUEUED, "kueue", 2, ()),
    "volcano": (QUEUED, "volcano", 1, ()),
}


def test_what_the_network_and_the_node_need_reaches_the_pods() -> None:
    scheduling = {
        "env": {"NCCL_SOCKET_IFNAME": "eth1", "NCCL_IB_HCA": "mlx5"},
        "labels": {"azure.workload.identity/use": "true"},
        "annotations": {"k8s.v1.cni.cncf.io/networks": "rdma-net"},
        "runtimeClassName": "nvidia",
        "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}],
    }
    resources = {"nodes": 2, "procsPerNode": 4, "cpu": "2", "cpuLimit": "2", "memory": "4Gi", "hugepages": {"2Mi": "1Gi"}}
    for gang in ("operator", "kueue"):
        for pod in rendered(manifest("01-demo-2x2x2.yaml", resources=resources, scheduling=scheduling), gang=gang).pods:  # type: ignore[arg-type]
            spec, (container,) = pod["spec"], pod["spec"]["containers"]
            variables = {each["name"]: each.get("value") for each in container["env"]}
            assert variables["NCCL_SOCKET_IFNAME"] == "eth1" and variables["NCCL_IB_HCA"] == "mlx5" and variables["HOME"]
            assert pod["metadata"]["labels"]["azure.workload.identity/use"] == "true"
            assert pod["metadata"]["annotations"]["k8s.v1.cni.cncf.io/networks"] == "rdma-net"
            assert spec["runtimeClassName"] == "nvidia" and spec["tolerations"][0]["tolerationSeconds"] == 60
            assert container["resources"]["limits"] == {"cpu": "2", "memory": "4Gi", "hugepages-2Mi": "1Gi"}
            assert container["resources"]["requests"] == container["resources"]["limits"]


@pytest.fixture(params=CASES, scope="module")
def case(request: pytest.FixtureRequest) -> tuple[str, Objects]:
    return request.param, rendered(*CASES[request.param])


def test_the_objects_are_those_of_the_golden_file(case: tuple[str, Objects]) -> None:
    name, objects = case
    path = GOLDEN / f"render-{name}.yaml"
    text = yaml.safe_dump_all(list(objects), sort_keys=False, width=140)
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def test_every_pod_keeps_to_the_restricted_standard_and_writes_only_to_volumes(case: tuple[str, Objects]) -> None:
    for pod in case[1].pods:
        spec, (container,) = pod["spec"], pod["spec"]["containers"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        assert not [volume for volume in spec["volumes"] if "hostPath" in volume]
        written = [option for option in ("--run-dir", "--cache") for option in [container["args"][container["args"].index(option) + 1]]]
        mounts_rw = [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
        assert all(any(path.startswith(f"{mount}/") for mount in mounts_rw) for path in written)


def test_every_object_is_owned_by_the_job_and_stays_in_its_namespace(case: tuple[str, Objects]) -> None:
    for each in case[1]:
        assert [owner["uid"] for owner in each["metadata"]["ownerReferences"]] == [UID]
        assert each["metadata"]["namespace"] == "default"


def test_the_agents_command_line_is_one_that_the_trainer_takes(case: tuple[str, Objects]) -> None:
    for index, pod in enumerate(case[1].pods):
        (container,) = pod["spec"]["containers"]
        assert container["command"] == ["python", "-m", "llmtrain_trainer"]
        options = trainer_parser().parse_args(container["args"])
        assert options.node_rank == index
        assert options.rendezvous == trainer_parser().parse_args(case[1].pods[0]["spec"]["containers"][0]["args"]).rendezvous
        assert options.grace < pod["spec"]["terminationGracePeriodSeconds"]


def test_the_pods_meet_at_the_name_of_pod_0_under_the_service(case: tuple[str, Objects]) -> None:
    first, service = case[1].pods[0], case[1].shared[0]
    (container,) = first["spec"]["containers"]
    host, _, port = container["args"][container["args"].index("--rendezvous") + 1].rpartition(":")
    assert host.split(".")[:3] == [first["spec"]["hostname"], service["metadata"]["name"], first["metadata"]["namespace"]]
    assert first["spec"]["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["selector"].items() <= first["metadata"]["labels"].items()
    assert int(port) in [one["containerPort"] for one in container["ports"]]


def test_the_config_map_holds_the_trainers_config_of_this_attempt(case: tuple[str, Objects]) -> None:
    name, objects = case
    config_map = next(each for each in objects.own if each["kind"] == "ConfigMap")
    assert config_map["data"][SECRET] == "drawn for this attempt"
    text = config_map["data"][FILE]
    config = TrainerConfig.model_validate_json(text)
    assert config.job.attempt == CASES[name][2]
    assert config.mesh.nodes == len(objects.pods)
    mounted = [volume["configMap"]["name"] for volume in objects.pods[0]["spec"]["volumes"] if "configMap" in volume]
    assert mounted == [config_map["metadata"]["name"]]


def test_what_is_rendered_is_read_back_as_the_pod_it_is(case: tuple[str, Objects]) -> None:
    name, objects = case
    seen = [pod_of(json.loads(json.dumps(pod))) for pod in objects.pods]
    assert [(pod.attempt, pod.index, pod.owner) for pod in seen] == [(CASES[name][2], index, UID) for index in range(len(seen))]


def test_a_secret_is_only_named_never_read() -> None:
    (container,) = rendered(LLAMA).pods[0]["spec"]["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "s3-credentials"}}]


def test_gpus_and_rdma_are_limits_and_the_cpu_is_none() -> None:
    (gpu,) = rendered(LLAMA).pods[0]["spec"]["containers"]
    assert gpu["resources"]["limits"] == {"memory": "1500Gi", "nvidia.com/gpu": "8", "rdma/hca": "8"}
    (cpu,) = rendered(TWO_NODES).pods[0]["spec"]["containers"]
    assert cpu["resources"] == {"requests": {"cpu": "500m", "memory": "4Gi"}, "limits": {"memory": "4Gi"}}


def test_a_claim_is_mounted_where_the_trainer_looks_for_it_and_read_only_unless_written() -> None:
    text = manifest(
        "01-demo-2x2x2.yaml",
        dataset=[{"source": "pvc://corpus/text.jsonl"}, {"source": "pvc://both/more.jsonl"}],
        checkpoint={"destination": "pvc://both/demo"},
    )
    assert claims(parse_manifest(text).spec) == {"both": True, "corpus": False}
    (container,) = rendered(text).pods[0]["spec"]["containers"]
    mounted = {mount["mountPath"]: mount.get("readOnly", False) for mount in container["volumeMounts"]}
    for claim, read_only in (("corpus", True), ("both", False)):
        assert mounted[mounts.resolve(f"pvc://{claim}").removeprefix("file://")] is read_only


def test_avoided_nodes_are_a_wish_and_each_term_names_one_node() -> None:
    wished = rendered(TWO_NODES, avoid=("node-b", "node-a")).pods[0]["spec"]["affinity"]["nodeAffinity"]
    assert list(wished) == ["preferredDuringSchedulingIgnoredDuringExecution"]
    (term,) = wished["preferredDuringSchedulingIgnoredDuringExecution"]
    assert [field["values"] for field in term["preference"]["matchFields"]] == [["node-a"], ["node-b"]]


def test_avoid_nodes_false_avoids_none() -> None:
    spec = rendered(manifest("01-demo-2x2x2.yaml", resilience={"avoidNodes": False}), avoid=("node-b",)).pods[0]["spec"]
    assert "affinity" not in spec


def test_only_pods_of_the_job_reach_its_ranks() -> None:
    policy = rendered(TWO_NODES).shared[1]["spec"]
    peers, readers = policy["ingress"]
    assert peers == {"from": [{"podSelector": {"matchLabels": {"llmtrain.io/job": "demo"}}}]}
    assert [port["port"] for port in readers["ports"]] == ["http"]
    assert policy["policyTypes"] == ["Ingress"]


def test_a_large_model_gets_time_to_save_and_a_job_without_checkpoints_none() -> None:
    llama, small = (parse_manifest(text) for text in (LLAMA, TWO_NODES))
    large_time = save_seconds(plan(llama, read_shape(llama.spec.model)))
    assert large_time > save_seconds(plan(small, read_shape(small.spec.model))) == 300
    document = yaml.safe_load(TWO_NODES)
    del document["spec"]["checkpoint"]
    unsaved = rendered(yaml.safe_dump(document)).pods[0]["spec"]
    assert unsaved["terminationGracePeriodSeconds"] == 30 + MARGIN


def test_a_pod_group_of_kueue_is_ended_by_a_pod_that_failed() -> None:
    for pod in rendered(QUEUED, "kueue").pods:
        assert pod["metadata"]["annotations"]["kueue.x-k8s.io/retriable-in-group"] == "false"
        assert pod["metadata"]["annotations"]["kueue.x-k8s.io/pod-group-total-count"] == "2"
        assert pod["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"


job_names = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?", fullmatch=True)
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
SERVICE = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


@given(job=job_names, attempt=st.integers(0, 10**12), index=st.integers(0, 4095))
@example(job="j" * 52, attempt=10**6, index=4095)
def test_no_name_is_longer_than_kubernetes_allows(job: str, attempt: int, index: int) -> None:
    for name in (names.pod(job, attempt, index), names.gang(job, attempt)):
        assert len(name) <= 63 and LABEL.fullmatch(name)
    assert len(names.service(job)) <= 63 and SERVICE.fullmatch(names.service(job))
    assert len(names.host(job, "n" * 63, attempt, index, "cluster.local")) <= 253


@given(one=job_names, other=job_names, attempts=st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)))
@example(one="j" * 52, other="j" * 51 + "k", attempts=(10**9, 10**9))
def test_two_attempts_never_share_a_pods_name(one: str, other: str, attempts: tuple[int, int]) -> None:
    first, second = (names.pod(job, attempt, 0) for job, attempt in zip((one, other), attempts, strict=True))
    assert (first == second) == ((one, attempts[0]) == (other, attempts[1]))
