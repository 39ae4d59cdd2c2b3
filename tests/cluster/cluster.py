"""A real two-node Kubernetes on one machine: control plane, two kubelets with containerd, DNS, proxy, an image registry, an S3 server.

`Cluster.up()` is called by the fixture of conftest.py and by `python -m tests.cluster up`. `Given` stands for a cluster that the user
names instead.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
from tests.cluster import binaries, components, images, pki
from tests.cluster.addresses import API_PORT, NODES, REGISTRY_PORT, S3_PORT, Site
from tests.cluster.binaries import CannotRunError
from tests.cluster.keeper import nsenter, sweep
from tests.servers.s3_server import build_versitygw

REPOSITORY = Path(__file__).parents[2]
COLLECTOR = {"GOGC": "400"}
"""Memory for time: at Go's own 100, collecting garbage takes a sixth of a young API server's time. One that is given holds."""


@dataclass(frozen=True, slots=True)
class Given:
    """A cluster to test against: somebody else's, or the base of our own."""

    kubeconfig: Path
    registry: str
    kubectl_path: str

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl; return its output (with its errors when `check` is off). Raises CalledProcessError with what it said."""
        errors = None if check else subprocess.STDOUT
        command = [self.kubectl_path, f"--kubeconfig={self.kubeconfig}", *arguments]
        done = subprocess.run(command, input=stdin, stdout=subprocess.PIPE, stderr=errors or subprocess.PIPE, text=True, check=False)
        if check and done.returncode:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def push(self, name: str, tag: str, files: dict[str, Path], entrypoint: list[str]) -> str:
        """Push a small image; returns the reference that pods use."""
        return images.push(self.registry, name, tag, files, entrypoint)

    def define_jobs(self) -> None:
        """Apply the CRD of the tree, and wait until jobs can be made."""
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(REPOSITORY / "crds" / "llmtrain.io_llmtrainjobs.yaml"))
        listed = ("get", "--raw", "/apis/llmtrain.io/v1alpha1")  # a moment after the CRD is Established
        _wait(lambda: "llmtrainjobs" in self.kubectl(*listed, check=False), "the CRD to be served", 60)

    @property
    def probe(self) -> str:
        """The image that holds tools/probe."""
        return f"{self.registry}/{components.PROBE}:1"


@dataclass(frozen=True, slots=True)
class Cluster(Given):
    """Our own cluster: components can be stopped and started again."""

    site: Site

    @classmethod
    def at(cls, site: Site) -> Cluster:
        """The cluster of a site, whether it runs or not."""
        return cls(site.kubeconfig, site.registry, str(binaries.program("kubectl")), site)

    @classmethod
    def up(cls, index: int = 0, *, stay: bool = False, nodes: bool = True) -> Cluster:
        """Build what is missing, start everything, return when both nodes are Ready.

        Without `nodes` there is the control plane alone, for simulated ones. The cluster ends with this process unless `stay`.
        Raises CannotRunError with the reason, RuntimeError when a component fails.
        """
        can_run()
        binaries.ensure()
        build_versitygw()
        site = Site(index)
        keeper = _start_keeper(site)
        cluster = cls.at(site)
        try:
            cluster._start_control_plane()
            if nodes:
                cluster._start_nodes()
        except BaseException:
            cluster.down()
            raise
        if stay:
            assert keeper.stdin is not None
            keeper.stdin.write(b"stay\n")
            keeper.stdin.flush()
        _KEEPERS[index] = keeper
        return cluster

    def down(self) -> None:
        """End the cluster; return when nothing of it is left."""
        with contextlib.suppress(OSError, ValueError):
            if not _free(self.site):
                os.kill(int(self.site.lock.read_text()), signal.SIGTERM)
        with self.site.lock.open("a") as lock:  # the keeper lets it go as its last act
            fcntl.flock(lock, fcntl.LOCK_EX)
            sweep(self.site)
        if keeper := _KEEPERS.pop(self.site.index, None):
            keeper.communicate()

    def start(self, name: str, *more: str) -> None:
        """Start a component by its name (see `components.commands`); of a flag that is given twice, the last in `more` holds."""
        command = [*components.commands(self.site)[name], *more]
        with (self.site.logs / name).open("ab") as log:
            outer = subprocess.Popen(
                [*self._inside(), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=COLLECTOR | os.environ,
            )
        _wait(lambda: bool(psutil.Process(outer.pid).children()) or outer.poll() is not None, f"{name} to start", 10)
        if outer.poll() is not None:
            raise RuntimeError(f"{name} ended at once: {self.log(name)}")
        self.site.pid_file(name).write_text(str(psutil.Process(outer.pid).children()[0].pid))

    def pid(self, name: str) -> int:
        """The process id of a component on the host."""
        return int(self.site.pid_file(name).read_text())

    def stop(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a component a signal and wait until it has ended."""
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid(name))
            process.send_signal(number)
            process.wait(30)

    def add_simulated_nodes(self, count: int) -> None:
        """Register nodes simulated-0, -1, ... of type kwok, tainted so that only pods that tolerate it or name the node run there."""
        nodes = [simulated_node(f"simulated-{number}") for number in range(count)]
        self.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": nodes}))
        if not self.alive().get("kwok"):
            self.start("kwok")

    def inside(self, *command: str) -> str:
        """Run a command in the namespaces of the nodes and return its output."""
        return subprocess.run([*self._inside(), *command], capture_output=True, text=True, check=True).stdout

    def log(self, name: str, lines: int = 15) -> str:
        """The end of a component's log."""
        return "\n".join((self.site.logs / name).read_text(errors="replace").splitlines()[-lines:])

    def alive(self) -> dict[str, bool]:
        """Component -> whether its process lives."""
        names = sorted(path.stem for path in self.site.pid_file("").parent.glob("*.pid"))
        return {name: psutil.pid_exists(self.pid(name)) for name in names}

    def _inside(self) -> tuple[str, ...]:
        return nsenter(self.pid("init"))

    def _start_control_plane(self) -> None:
        pki.write_pki(self.site)
        components.write_files(self.site)
        for name in ("etcd", "kube-apiserver"):
            self.start(name)
        self.until_serves()
        for name in ("kube-controller-manager", "kube-scheduler"):
            self.start(name)
        # The account appears a moment after the server is ready; without it no pod is admitted.
        self._until("kube-controller-manager", lambda: "default" in self.kubectl("get", "serviceaccount", "-o", "name", check=False))

    def _start_nodes(self) -> None:
        for name in ("registry", "s3", *(f"containerd-{node}" for node in NODES)):
            self.start(name)
        self._until_listens("registry", REGISTRY_PORT)
        self.push(components.PROBE, "1", {"/probe": binaries.program("probe")}, ["/probe"])
        self._until_listens("s3", S3_PORT)
        for name in (*(f"kubelet-{node}" for node in NODES), "kube-proxy", "coredns"):
            self.start(name)
        for node in NODES:
            self._until(f"kubelet-{node}", lambda node=node: self.ready(node))  # type: ignore[misc]
        self._until_listens("coredns", 53)

    def until_serves(self) -> None:
        """Wait for the API server."""
        self._until_listens("kube-apiserver", API_PORT)
        self._until("kube-apiserver", lambda: self.kubectl("get", "--raw", "/readyz", check=False) == "ok")

    def ready(self, node: str) -> bool:
        """Whether the API server says that the node is Ready."""
        path = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
        return self.kubectl("get", "node", node, "-o", path, check=False) == "True"

    def _until_listens(self, name: str, port: int) -> None:
        self._until(name, lambda: _listens(self.site.gateway, port))

    def _until(self, name: str, holds: Callable[[], bool]) -> None:
        """Wait for a component; when it does not come up the error carries the end of its log."""
        deadline = time.monotonic() + 90
        while not holds():
            if not psutil.pid_exists(self.pid(name)) or time.monotonic() > deadline:
                raise RuntimeError(f"{name} did not come up. The end of {self.site.logs / name}:\n{self.log(name)}")
            time.sleep(0.1)


_KEEPERS: dict[int, subprocess.Popen[bytes]] = {}


def can_run() -> None:
    """Raise CannotRunError, with the reason in one line, where no cluster can be started."""
    if sys.platform != "linux":
        raise CannotRunError("the test cluster needs Linux; set KUBECONFIG and LLMTRAIN_REGISTRY to test against a cluster you have")
    if os.geteuid() != 0:
        raise CannotRunError(
            "the test cluster needs root (namespaces, mounts, cgroups); set KUBECONFIG and LLMTRAIN_REGISTRY to use a cluster you have"
        )
    binaries.install_packages()
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "true"], capture_output=True, text=True, check=False
    )
    if tried.returncode:
        raise CannotRunError(f"this machine allows no new namespaces: {tried.stderr.strip()}")


def free_index() -> int:
    """The index of a cluster that nobody runs; 0 is left to `make cluster`."""
    return next(index for index in range(1, 100) if _free(Site(index)))


def _free(site: Site) -> bool:
    site.lock.parent.mkdir(parents=True, exist_ok=True)
    with site.lock.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _start_keeper(site: Site) -> subprocess.Popen[bytes]:
    """Start the process that owns the namespaces; it inherits the lock, so the lock lives exactly as long as it does."""
    site.lock.parent.mkdir(parents=True, exist_ok=True)
    with site.lock.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(f"cluster {site.index} runs already: python -m tests.cluster down ends it") from None
        command = [sys.executable, "-m", "tests.cluster.keeper", str(site.index)]
        keeper = subprocess.Popen(
            command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, pass_fds=[lock.fileno()]
        )
        lock.truncate(0)
        lock.write(str(keeper.pid))
        lock.flush()
    assert keeper.stdout is not None
    if keeper.stdout.readline() != b"ready\n":
        raise RuntimeError(f"the keeper could not make the cluster's namespaces; its reason stands above and in {site.logs}/init")
    return keeper


ON_SIMULATED = {"nodeSelector": {"type": "kwok"}, "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}]}
"""spec.scheduling of a job whose pods belong on simulated nodes."""


def simulated_node(name: str) -> dict[str, object]:
    """A node that kwok runs."""
    taint = {"key": "kwok.x-k8s.io/node", "value": "simulated", "effect": "NoSchedule"}
    labels = {"type": "kwok", "lives": "shortly"}  # a pod that selects the second ends by itself, as kwok.yaml has it
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": {"taints": [taint]}}


def _listens(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0


def _wait(holds: Callable[[], bool], what: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.01)
