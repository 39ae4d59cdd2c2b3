"""The cluster itself: two nodes, restricted pods that find each other by name, and nothing that gets out."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from typing import Any

import pytest
from tests.cluster.addresses import NODES
from tests.cluster.cluster import Cluster, Given
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster

RESTRICTED: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "runAsUser": 65535,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def pod(cluster: Given, name: str, arguments: Sequence[str], node: str | None = None) -> dict[str, Any]:
    """A restricted pod of Service `peers` that runs the probe once."""
    container = {"name": "probe", "image": cluster.probe, "args": list(arguments), "securityContext": RESTRICTED}
    spec: dict[str, Any] = {"hostname": name, "subdomain": "peers", "restartPolicy": "Never", "containers": [container]}
    spec |= {"terminationGracePeriodSeconds": 1, "automountServiceAccountToken": False}
    if node:
        spec["nodeName"] = node
    metadata = {"name": name, "labels": {"app": "peers"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def apply(cluster: Given, namespace: str, *objects: dict[str, Any]) -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(listed))


def finished(cluster: Given, namespace: str, name: str) -> tuple[str, str]:
    """The phase in which a pod ended, and what it printed."""
    until(lambda: phase(cluster, namespace, name) in ("Succeeded", "Failed"), f"pod {name} to end")
    return phase(cluster, namespace, name), cluster.kubectl("logs", "-n", namespace, name)


def phase(cluster: Given, namespace: str, name: str) -> str:
    return cluster.kubectl("get", "pod", "-n", namespace, name, "-o", "jsonpath={.status.phase}")


def two_nodes(cluster: Given) -> list[str]:
    nodes = json.loads(cluster.kubectl("get", "nodes", "-o", "json"))["items"]
    return [node["metadata"]["name"] for node in nodes if is_ready(node)][:2]


def is_ready(node: dict[str, Any]) -> bool:
    return any(one["type"] == "Ready" and one["status"] == "True" for one in node["status"]["conditions"])


def test_both_nodes_are_ready(cluster: Given) -> None:
    assert len(two_nodes(cluster)) == 2


def test_restricted_pods_on_two_nodes_find_each_other_by_name_and_exchange_bytes(cluster: Given, namespace: str) -> None:
    first, second = two_nodes(cluster)
    ports = [{"name": "probe", "port": 4000}]
    headless = {"clusterIP": "None", "selector": {"app": "peers"}, "ports": ports, "publishNotReadyAddresses": True}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "peers"}, "spec": headless}
    address = f"server.peers.{namespace}.svc.cluster.local:4000"
    apply(
        cluster,
        namespace,
        service,
        pod(cluster, "server", ["serve", "4000"], first),
        pod(cluster, "client", ["exchange", address, "tensor"], second),
    )
    until(lambda: "answer:" in cluster.kubectl("logs", "-n", namespace, "client", check=False), "the answer")
    assert cluster.kubectl("logs", "-n", namespace, "client").strip() == "answer: tensor from server"
    placed = cluster.kubectl("get", "pods", "-n", namespace, "-o", "jsonpath={.items[*].spec.nodeName}").split()
    assert sorted(placed) == sorted([first, second])


def test_a_pod_that_may_do_more_than_restricted_is_refused(cluster: Given, namespace: str) -> None:
    loose = pod(cluster, "loose", [])
    del loose["spec"]["containers"][0]["securityContext"]
    said = cluster.kubectl("create", "-n", namespace, "-f", "-", stdin=json.dumps(loose), check=False)
    assert "violates PodSecurity" in said


def test_the_scheduler_places_pods_and_says_why_it_cannot(cluster: Given, namespace: str) -> None:
    large = pod(cluster, "large", [])
    large["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "100k"}}
    apply(cluster, namespace, large, pod(cluster, "small", ["dial", "127.0.0.1:1"]))
    finished(cluster, namespace, "small")
    path = "jsonpath={.status.conditions[?(@.type=='PodScheduled')].message}"
    until(lambda: "Insufficient cpu" in cluster.kubectl("get", "pod", "-n", namespace, "large", "-o", path), "the scheduler's reason")


@pytest.mark.parametrize(
    ("address", "ends"),
    [
        pytest.param("kubernetes.default.svc.cluster.local:443", "Succeeded", id="the API server's service is reached"),
        pytest.param("203.0.113.1:80", "Failed", id="an address of the internet is not"),
        pytest.param("example.com:80", "Failed", id="nor a name of the internet"),
        pytest.param("10.244.9.9:80", "Failed", id="nor a pod that does not exist"),
    ],
)
def test_what_a_pod_sends_stays_on_the_machine(own: Cluster, namespace: str, address: str, ends: str) -> None:
    apply(own, namespace, pod(own, "dialler", ["dial", address]))
    ended, said = finished(own, namespace, "dialler")
    assert ended == ends, said
    assert ends == "Succeeded" or "dial tcp" in said or "lookup" in said


def test_a_pod_cannot_reach_the_host(own: Cluster, namespace: str) -> None:
    import socket

    with socket.create_server((own.site.host, 0)) as server:
        port = server.getsockname()[1]
        socket.create_connection((own.site.host, port), timeout=3).close()
        apply(own, namespace, pod(own, "dialler", ["dial", f"{own.site.host}:{port}"]))
        assert finished(own, namespace, "dialler")[0] == "Failed"


def test_a_node_whose_kubelet_is_gone_becomes_not_ready_and_comes_back(own: Cluster) -> None:
    own.stop(f"kubelet-{NODES[1]}", signal.SIGKILL)
    until(lambda: not own.ready(NODES[1]), "the node to be NotReady")
    own.start(f"kubelet-{NODES[1]}")
    until(lambda: own.ready(NODES[1]), "the node to be Ready again")


def test_simulated_nodes_run_pods_beside_the_real_ones(own: Cluster, namespace: str) -> None:
    own.add_simulated_nodes(3)
    until(lambda: own.ready("simulated-2"), "the simulated nodes to be Ready")
    apply(own, namespace, *(pod(own, f"p{number}", [], "simulated-1") for number in range(4)))
    until(lambda: all(phase(own, namespace, f"p{number}") == "Running" for number in range(4)), "pods to run")
    own.kubectl("delete", "pods", "-n", namespace, "--all", "--timeout=30s")
