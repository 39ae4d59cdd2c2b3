"""Every event of a namespace's pods, as `kubectl get --watch` tells it, through an outage of the API server. Used by test_scale.py."""

from __future__ import annotations

import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from types import TracebackType

from tests.cluster.cluster import Cluster


class WatchedPods:
    """Which pods there are, which were ever deleted, and how many attempts of a job had pods at once."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace
        self.phases: dict[str, str] = {}
        self.deleted: set[str] = set()
        self._attempts = 0
        self._over = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> WatchedPods:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        if self._process is not None:
            self._process.terminate()
        self._thread.join(10)

    def running(self) -> int:
        """Pods that run now."""
        return list(self.phases.values()).count("Running")

    def most_attempts(self) -> int:
        """Attempts of one job that had pods at the same time, at the most."""
        return self._attempts

    def until(self, holds: Callable[[], bool], what: str, seconds: float = 120) -> None:
        """Wait."""
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}; there are {self.running()} of {len(self.phases)}"
            time.sleep(0.2)

    def _read(self) -> None:
        """Again and again: a watch ends with the API server, and begins with what there is."""
        command = [self.cluster.kubectl_path, f"--kubeconfig={self.cluster.kubeconfig}", "get", "pods", "-n", self.namespace]
        command += ["--watch", "--output-watch-events", "--no-headers"]
        while not self._over.is_set():
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as self._process:
                assert self._process.stdout is not None
                for line in self._process.stdout:
                    event, name, _, phase = line.split()[:4]
                    self._take(event, name, phase)
            self._over.wait(0.5)

    def _take(self, event: str, name: str, phase: str) -> None:
        if event == "DELETED":
            self.phases.pop(name, None)
            self.deleted.add(name)
            return
        self.phases[name] = phase
        gangs: defaultdict[str, set[str]] = defaultdict(set)
        for pod in self.phases:
            job, attempt, _ = pod.rsplit("-", 2)
            gangs[job].add(attempt)
        self._attempts = max(self._attempts, *(len(attempts) for attempts in gangs.values()))
