"""NetworkPolicies enforced on node n0 by kube-router, and taken away without a trace. Used by test_network_policy.py.

Nothing else of the test cluster enforces them: its pod network is a bridge.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.cluster.cluster import Cluster
from tests.cluster.waiting import until

# What a bridge carries between two pods of a node passes iptables only if the kernel is told so.
_BRIDGED = "echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables"
_FORGET = """
for save in iptables ip6tables; do
    $save-save -t filter | grep -v -e KUBE-ROUTER- -e KUBE-NWPLCY- -e KUBE-POD-FW- | $save-restore -T filter
done
ipset list -n | grep -E '^(inet6:)?KUBE-(SRC|DST)-' | xargs -r -n 1 ipset destroy
"""


@contextmanager
def enforced(cluster: Cluster) -> Iterator[None]:
    """As long as this is open, pods of n0 get what NetworkPolicies let them get, and nothing else."""
    cluster.inside("sh", "-c", _BRIDGED)
    cluster.start("kube-router")
    try:
        yield
    finally:
        print(cluster.log("kube-router"))
        cluster.stop("kube-router")
        cluster.inside("sh", "-c", _FORGET)


def until_walled(cluster: Cluster, *pods: str) -> None:
    """Wait until kube-router has written the rules of these pods of n0."""
    until(lambda: all(f"POD name:{pod} " in cluster.inside("iptables-save", "-t", "filter") for pod in pods), "the rules of the pods")
