"""However a cluster ends, nothing of it stays on the host: no process, interface, route, rule, mount, cgroup or file."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cluster.addresses import Site
from tests.cluster.cluster import REPOSITORY, Cluster, Given, free_index
from tests.cluster.host_state import host_state, process_namespace, processes
from tests.cluster.keeper import sweep
from tests.cluster.test_pods import apply, phase, pod
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster

HOLD = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that runs the tests in its background makes them deaf to Ctrl-C
from tests.cluster.cluster import Cluster
Cluster.up(int(sys.argv[1]))
print("up", flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module", autouse=True)
def own_machine(cluster: Given) -> None:
    """These tests start clusters of their own, where the session's one could start too."""
    if not isinstance(cluster, Cluster):
        pytest.skip("starts clusters on this machine; the tests run against a given one")


def started_by_another(site: Site) -> subprocess.Popen[str]:
    """A process that starts a cluster, as a test run does, and then only lives."""
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(site.index)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "up\n", "the cluster did not come up"
    return holder


def busy(site: Site) -> int:
    """Let pods run on both nodes; returns the namespace of process ids."""
    cluster = Cluster.at(site)
    apply(cluster, "default", *(pod(cluster, f"stays-{node}", [], node) for node in ("n0", "n1")))
    until(lambda: all(phase(cluster, "default", f"stays-{node}") == "Running" for node in ("n0", "n1")), "pods to run")
    return process_namespace(cluster.pid("kubelet-n0"))


def wait_for_the_keeper(site: Site) -> None:
    with site.lock.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["interrupted by Ctrl-C", "killed"])
def test_nothing_stays_when_the_test_run_is(number: signal.Signals) -> None:
    site = Site(free_index())
    before = host_state(site)
    with started_by_another(site) as holder:
        namespace = busy(site)
        assert processes(site, namespace) and host_state(site) != before
        holder.send_signal(number)
    wait_for_the_keeper(site)
    assert host_state(site) == before
    assert processes(site, namespace) == []
    assert not site.root.exists()


def test_down_clears_up_after_a_keeper_that_was_killed() -> None:
    site = Site(free_index())
    before = host_state(site)
    with started_by_another(site) as holder:
        namespace = busy(site)
        os.kill(int(site.lock.read_text()), signal.SIGKILL)
        wait_for_the_keeper(site)
        Cluster.at(site).down()
        holder.kill()
    assert host_state(site) == before
    assert processes(site, namespace) == []
    assert not site.root.exists()


def test_a_cluster_started_by_hand_stays_until_down() -> None:
    site = Site(free_index())
    before = host_state(site)
    said = by_hand("up", site)
    assert f"export KUBECONFIG={site.kubeconfig}" in said and f"export LLMTRAIN_REGISTRY={site.registry}" in said
    namespace = process_namespace(Cluster.at(site).pid("etcd"))
    assert by_hand("status", site).count(" Ready ") == 2
    by_hand("down", site)
    assert host_state(site) == before
    assert processes(site, namespace) == []


def by_hand(verb: str, site: Site) -> str:
    """What `python -m tests.cluster` prints. It must let go of its output, or this waits for ever."""
    command = [sys.executable, "-m", "tests.cluster", verb, "--index", str(site.index)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=120).stdout


def test_a_sweep_takes_what_a_crash_left(tmp_path: Path) -> None:
    site = Site(free_index())
    before = host_state(site)
    subprocess.run(["ip", "link", "add", site.link, "type", "veth", "peer", "name", f"{site.link}p"], check=True)
    for hierarchy in ("memory", "pids"):
        Path("/sys/fs/cgroup", hierarchy, site.cgroup, "n0", "kubepods").mkdir(parents=True)
    site.root.mkdir(parents=True)
    (site.root / "left").touch()
    assert host_state(site) != before
    sweep(site)
    assert host_state(site) == before
    assert not site.root.exists()
