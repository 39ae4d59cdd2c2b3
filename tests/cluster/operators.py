"""The operator as a process beside a cluster, and what it says of itself. Used by the tests of this package and by benchmarks/."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from prometheus_client.parser import text_string_to_metric_families
from tests.cluster.cluster import Cluster

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
"""Name and sorted labels -> value."""


@dataclass
class Operator:
    """One replica; its log is JSON, a line an entry."""

    process: subprocess.Popen[bytes]
    log: Path
    host: str

    @classmethod
    def start(cls, cluster: Cluster, log: Path, namespace: str, *, watched: Sequence[str] = (), more: Sequence[str] = ()) -> Operator:
        """Start a replica that keeps its lease in `namespace`, and wait until it serves its pages.

        It lives in the network of the cluster's nodes: the addresses of simulated pods lead nowhere there, and outside to strangers.
        """
        command = ["nsenter", "--target", str(cluster.pid("init")), "--net", "--", sys.executable, "-m", "llmtrain_operator"]
        command += [
            "--trainer-image",
            "example/trainer:1",
            "--host",
            cluster.site.gateway,
            "--port",
            "0",
            "--operator-namespace",
            namespace,
        ]
        command += [word for one in watched for word in ("--namespace", one)] + list(more)
        with log.open("wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, "KUBECONFIG": str(cluster.kubeconfig)})
        made = cls(process, log, cluster.site.gateway)
        made.waits_to_say("serves on port")
        return made

    def leads(self) -> None:
        """Wait until it leads."""
        self.waits_to_say(" leads")

    def waits_to_say(self, words: str, seconds: float = 60) -> None:
        """Wait for words in its log. Raises RuntimeError with the log where they do not come."""
        deadline = time.monotonic() + seconds
        while not self.says(words):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the operator did not say {words!r}: {self.log.read_text()}")
            time.sleep(0.1)

    def page(self, name: str) -> tuple[int, str]:
        """Status code and text of one of its pages."""
        port = re.search(r"serves on port (\d+)", self.log.read_text())
        assert port is not None
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://{self.host}:{port.group(1)}/{name}", timeout=30) as page:
                return page.status, page.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metrics(self) -> str:
        """The page /metrics."""
        return self.page("metrics")[1]

    def samples(self) -> Samples:
        """Every value of /metrics."""
        return samples_of(self.metrics())

    def reconciled(self) -> bool:
        """Whether it leads and has looked at a job."""
        return self.says(" leads") and re.search(r'reconcile_seconds_count\{result="done"\} [1-9]', self.metrics()) is not None

    def says(self, words: str) -> bool:
        """Whether the words stand in its log."""
        return words in self.log.read_text()

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def peak_bytes(self) -> int:
        """The most memory it held."""
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        assert found is not None
        return int(found[1]) * 1024

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(30)


def end_all(operators: Iterable[Operator], number: signal.Signals = signal.SIGTERM) -> None:
    """End those that still run, and print what each has logged."""
    for operator in operators:
        if operator.process.poll() is None:
            operator.end(number)
        print(operator.log.read_text())


def samples_of(page: str) -> Samples:
    """Every value of a page in Prometheus' format."""
    families = text_string_to_metric_families(page)
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples}
