"""The NetworkPolicy of a job under a network that enforces it: strangers reach no port of its pods, the gang and the readers do."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any

import pytest
from tests.cluster.addresses import NODES
from tests.cluster.cluster import Cluster
from tests.cluster.enforcement import enforced, until_walled
from tests.cluster.image.build import Images
from tests.cluster.release import Release
from tests.cluster.test_pods import RESTRICTED, finished
from tests.cluster.trained_job import TrainedJob, make_bucket, manifest
from tests.cluster.waiting import until

from llmtrain_operator.kube.names import job_labels
from llmtrain_operator.kube.render_settings import HTTP_PORT, RENDEZVOUS_PORT

pytestmark = pytest.mark.cluster

LISTENS = """
import json
lines = [line.split() for name in ("tcp", "tcp6") for line in open(f"/proc/1/net/{name}").readlines()[1:]]
places = [line[1].split(":") for line in lines if line[3] == "0A"]
loopback = ("0100007F", "00000000000000000000000001000000")
print(json.dumps(sorted({int(port, 16) for address, port in places if address not in loopback})))
"""
DIAL = """
import json, socket, sys, time
address, rounds, *ports = sys.argv[1], *map(int, sys.argv[2:])
def reached(port):
    try:
        socket.create_connection((address, port), timeout=3).close()
    except OSError:
        return False
    return True
found = []
while not found and rounds:
    found, rounds = [port for port in ports if reached(port)], rounds - 1
    time.sleep(0 if found or not rounds else 0.2)
print(json.dumps(found))
"""


@pytest.fixture
def monitoring(own: Cluster, namespace: str) -> Iterator[str]:
    """A namespace whose pods may read metrics."""
    yield from beside(own, f"{namespace}-monitoring")


@pytest.fixture
def elsewhere(own: Cluster, namespace: str) -> Iterator[str]:
    """A namespace that has no business with the job."""
    yield from beside(own, f"{namespace}-elsewhere")


def beside(own: Cluster, name: str) -> Iterator[str]:
    own.kubectl("create", "namespace", name)
    yield name
    own.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def release(own: Cluster, images: Images, monitoring: str) -> Iterator[Release]:
    """The chart, told who reads metrics; new pods go to the first node while it is installed."""
    made = Release(own)
    made.install(image=images.operator, trainerImage=images.trainer, replicas=1, metrics={"namespaces": [monitoring]})
    own.kubectl("cordon", NODES[1])
    yield made
    own.kubectl("uncordon", NODES[1])
    print(made.logs())
    made.uninstall()


ROUNDS = {"prometheus": 20}
"""How often a pod dials before it says that it reaches nothing: the network learns of a new pod a moment after it runs."""


def dialler(image: str, name: str, node: str, address: str, ports: Collection[int], labels: dict[str, str]) -> dict[str, Any]:
    """A pod that prints which ports of an address it reaches."""
    command = ["python", "-c", DIAL, address, str(ROUNDS.get(name, 1)), *map(str, ports)]
    spec = {"nodeName": node, "restartPolicy": "Never", "automountServiceAccountToken": False}
    spec["containers"] = [{"name": "main", "image": image, "command": command, "securityContext": RESTRICTED | {"runAsUser": 1000}}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}


def reached(own: Cluster, image: str, strangers: dict[str, tuple[str, str, dict[str, str]]], *target: Any) -> dict[str, list[int]]:
    """Name -> ports that a pod of this (namespace, node, labels) reaches."""
    for name, (space, node, labels) in strangers.items():
        own.kubectl("create", "-n", space, "-f", "-", stdin=json.dumps(dialler(image, name, node, *target, labels)))
    ended = {name: finished(own, space, name) for name, (space, _, _) in strangers.items()}
    assert all(phase == "Succeeded" for phase, _ in ended.values()), ended
    return {name: json.loads(said) for name, (_, said) in ended.items()}


@pytest.mark.timeout(300)
def test_strangers_reach_no_port_of_a_jobs_pods_and_its_own_and_the_readers_do(
    own: Cluster, release: Release, images: Images, namespace: str, monitoring: str, elsewhere: str, told: None
) -> None:
    make_bucket(own, namespace)
    with enforced(own):
        job = TrainedJob.apply(own, manifest(namespace, "walled", steps=100_000, every=10_000))
        # Ranks in two pods compute steps: the gang meets. The operator tells of them: it reads the agents.
        until(lambda: job.status().get("progress", {}).get("step", 0) > 0, "the operator to tell of a step")
        first, second = job.pod(0), job.pod(1)
        assert job.node(first) == job.node(second) == NODES[0]
        until_walled(own, first, second)
        address = own.kubectl("get", "pod", "-n", namespace, first, "-o", "jsonpath={.status.podIP}")
        ports = json.loads(own.kubectl("exec", "-n", namespace, first, "--", "python", "-c", LISTENS))
        assert {RENDEZVOUS_PORT, HTTP_PORT} < set(ports), ports

        inside = own.kubectl("exec", "-n", namespace, second, "--", "python", "-c", DIAL, address, "20", *map(str, ports))
        assert json.loads(inside) == ports
        seen = {
            "neighbour": (namespace, NODES[0], {}),
            "from-another-node": (namespace, NODES[1], {"app": "other"}),
            "dressed-up-elsewhere": (elsewhere, NODES[1], dict(job_labels("walled"))),
            "prometheus": (monitoring, NODES[0], {}),
        }
        found = reached(own, images.trainer, seen, address, ports)
        assert found == {name: [HTTP_PORT] if name == "prometheus" else [] for name in seen}
        step = job.status()["progress"]["step"]
        until(lambda: job.status()["progress"]["step"] > step, "the job to go on")
    # The same strangers reach every port where nothing enforces the policy: what stopped them was no fault of theirs.
    assert reached(own, images.trainer, {"once-more": seen["from-another-node"]}, address, ports) == {"once-more": ports}
    own.kubectl("delete", "ltj", "walled", "-n", namespace)
