"""Where one test cluster lives: its directory, addresses and names. Everything else of this package asks here.

All processes of a cluster live in namespaces of their own (network, mounts, processes), so ports and pod ranges are the same in every
cluster; only what the host sees (a directory, one interface, a /24, a cgroup) carries the cluster's index.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.cluster.binaries import cache

NODES = ("n0", "n1")
PODS, SERVICES, API_SERVICE = "10.244.0.0/16", "10.96.0.0/16", "10.96.0.1"
API_PORT, REGISTRY_PORT, S3_PORT = 6443, 5000, 7070


@dataclass(frozen=True, slots=True)
class Site:
    """The names and addresses of cluster number `index`."""

    index: int

    @property
    def root(self) -> Path:
        """Everything the cluster writes; removed when it ends. Short, because Unix sockets live below it."""
        return cache() / "cluster" / str(self.index)

    @property
    def logs(self) -> Path:
        """One log a component; kept until the next start, to read after a failure."""
        return cache() / "cluster" / f"{self.index}-log"

    @property
    def lock(self) -> Path:
        """Held by the keeper as long as the cluster lives."""
        return cache() / "cluster" / f"{self.index}.lock"

    @property
    def link(self) -> str:
        """The host's end of the one wire into the cluster; it vanishes with the cluster's network namespace."""
        return f"llmtrain{self.index}"

    @property
    def cgroup(self) -> str:
        """The cgroup, in every hierarchy, below which the nodes' pods live."""
        return f"llmtrain-{self.index}"

    @property
    def gateway(self) -> str:
        """The address of API server, DNS, registry and S3 server, reachable from the host and from pods."""
        return f"10.0.{99 + self.index}.1"

    @property
    def host(self) -> str:
        """The host's address on the wire: the API server may call a webhook there, pods may not."""
        return f"10.0.{99 + self.index}.254"

    @property
    def registry(self) -> str:
        """Host and port of the image registry, plain HTTP."""
        return f"{self.gateway}:{REGISTRY_PORT}"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.pki("admin.kubeconfig")

    def node_address(self, node: str) -> str:
        """The address of a kubelet."""
        return f"10.0.{99 + self.index}.{11 + NODES.index(node)}"

    def pki(self, name: str) -> Path:
        """A certificate, key or kubeconfig."""
        return self.root / "pki" / name

    def of_node(self, node: str, name: str) -> Path:
        """A file of one node."""
        return self.root / node / name

    def pid_file(self, name: str) -> Path:
        """The process id, as the host sees it, of a component."""
        return self.root / "run" / f"{name}.pid"
