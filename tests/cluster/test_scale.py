"""Fifty jobs on simulated nodes through the faults that are nobody's fault of theirs: two replicas, a killed leader, an API server away."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.cluster import Cluster
from tests.cluster.operators import Operator, end_all
from tests.cluster.test_fuzz import good_job
from tests.cluster.watched_pods import WatchedPods

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

JOBS, PODS = 50, 100
AWAY = 60.0
"""Seconds without an API server: more than the lease lasts."""


@pytest.fixture
def replicas(own: Cluster, namespace: str, tmp_path: Path) -> Iterator[list[Operator]]:
    """Two of them, the first leads."""
    own.add_simulated_nodes(4)
    own.define_jobs()
    made = [Operator.start(own, tmp_path / "first.log", namespace, watched=[namespace])]
    made[0].leads()
    made.append(Operator.start(own, tmp_path / "second.log", namespace, watched=[namespace]))
    yield made
    end_all(made, signal.SIGKILL)


def test_neither_a_killed_leader_nor_an_api_server_that_is_away_costs_a_pod(
    own: Cluster, namespace: str, replicas: list[Operator], tmp_path: Path
) -> None:
    first, second = replicas
    with WatchedPods(own, namespace) as watched:
        create(own, namespace, range(JOBS))
        watched.until(lambda: watched.running() == PODS, "all pods to run")
        assert not second.says(" leads")
        first.end(signal.SIGKILL)
        second.leads()
        create(own, namespace, range(JOBS, JOBS + 1))
        watched.until(lambda: watched.running() == PODS + 2, "the pods of a job that came after")
        before = identities(own, namespace)
        own.stop("kube-apiserver", signal.SIGKILL)
        time.sleep(AWAY)
        own.start("kube-apiserver")
        own.until_serves()
        third = Operator.start(own, tmp_path / "third.log", namespace, watched=[namespace])
        replicas.append(third)  # as a Deployment would, where the leader ended when it could not renew its lease
        wait_for_leader(replicas)
        create(own, namespace, range(JOBS + 1, JOBS + 2))
        watched.until(lambda: watched.running() == PODS + 4, "the pods of a job that came after the outage")
        after = identities(own, namespace)
    assert {name: uid for name, uid in after.items() if name in before} == before, "a pod was made anew"
    assert watched.deleted == set() and watched.most_attempts() == 1
    assert Counter(name.rsplit("-", 1)[0] for name in after) == {f"good-{number}-a1": 2 for number in range(JOBS + 2)}
    transitions = own.kubectl("get", "lease", "-n", namespace, "llmtrain-operator", "-o", "jsonpath={.spec.leaseTransitions}")
    assert int(transitions) >= 1


def create(cluster: Cluster, namespace: str, numbers: range) -> None:
    jobs: list[dict[str, Any]] = [good_job(namespace, f"good-{number}") for number in numbers]
    cluster.kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": jobs}))


def identities(cluster: Cluster, namespace: str) -> dict[str, str]:
    """Pod -> uid and restarts."""
    path = "jsonpath={range .items[*]}{.metadata.name} {.metadata.uid}/{.status.containerStatuses[0].restartCount}{'\\n'}{end}"
    return dict(line.split() for line in cluster.kubectl("get", "pods", "-n", namespace, "-o", path).splitlines())


def wait_for_leader(replicas: list[Operator]) -> None:
    """Until one that lives leads again."""
    deadline = time.monotonic() + 180
    while not any(one.process.poll() is None and "llmtrain_leader 1.0" in one.metrics() for one in replicas):
        assert time.monotonic() < deadline, "nobody leads"
        time.sleep(0.5)
