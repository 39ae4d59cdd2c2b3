"""A small job that trains in real pods, as long as faults need: one rank is stopped most of the time.

Used by test_faults.py and test_engines.py; parts of it by others.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from tests.cluster.cluster import Cluster
from tests.cluster.example import store
from tests.cluster.recorder import Recorder
from tests.cluster.waiting import until
from tests.servers.s3_server import S3Server

SHAPE = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 320,
    "max_position_embeddings": 64,
}
_STOPPED = 1.2


def make_bucket(cluster: Cluster, namespace: str) -> S3Server:
    """A bucket named like the namespace, some text in it, and its credentials as the secret `s3`."""
    server = store(cluster, namespace, "s3")
    text = "".join(json.dumps({"text": f"The model reads token {number} and tells what comes next."}) + "\n" for number in range(300))
    server.client().create_bucket(Bucket=namespace)
    server.client().put_object(Bucket=namespace, Key="text.jsonl", Body=text.encode())
    return server


def manifest(namespace: str, name: str, steps: int, every: int) -> dict[str, Any]:
    """Two pods of one process, each with a half of every batch. A checkpoint every so many steps."""
    spec = {
        "model": {"config": SHAPE},
        "tokenizer": {"train": {"algorithm": "bpe", "vocabSize": 300}},
        "dataset": [{"source": f"s3://{namespace}/text.jsonl"}],
        "training": {"globalBatchSize": 8, "microBatchSize": 4, "sequenceLength": 32, "maxSteps": steps, "precision": "fp32"},
        "checkpoint": {"destination": f"s3://{namespace}/{name}", "secretName": "s3", "every": {"steps": every}},
        "output": {"export": [], "report": False},
        "resources": {"nodes": 2, "procsPerNode": 1},
    }
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "llmtrain.io/v1alpha1", "kind": "LLMTrainJob", "metadata": metadata, "spec": spec}


def shows_training(cluster: Cluster, namespace: str, name: str) -> bool:
    """Whether `kubectl get` shows the job as one that trains, with every live column filled."""
    shown = cluster.kubectl("get", "ltj", name, "-n", namespace)
    print(shown)
    headings, values = shown.splitlines()
    starts = [found.start() for found in re.finditer(r"\S+", headings)]
    ends = [*starts[1:], None]
    row = {headings[start:end].strip(): values[start:end].strip() for start, end in zip(starts, ends, strict=True)}
    return row["PHASE"] == "Running" and all(row[heading] not in ("", "0") for heading in ("STEP", "TOTAL", "LOSS", "TOK/S/GPU", "ETA"))


def processes_of(uid: str) -> list[psutil.Process]:
    """Every process of a pod, as this machine sees them."""
    found = []
    for process in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            if uid in Path(f"/proc/{process.pid}/cgroup").read_text().replace("_", "-"):
                found.append(process)
    return found


def kill_pod(uid: str) -> None:
    """End every process of a pod by SIGKILL. Some go by themselves with the first process of their container."""
    for process in processes_of(uid):
        with suppress(psutil.NoSuchProcess):
            process.kill()


def process_inside(uid: str, number: int) -> psutil.Process:
    """The process of a pod that has this id there."""
    return next(process for process in processes_of(uid) if _pid_inside(process) == number)


@dataclass
class TrainedJob:
    """The job, its record, and its brake."""

    cluster: Cluster
    namespace: str
    name: str
    recorder: Recorder
    _brake: threading.Thread | None = None
    _released: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def apply(cls, cluster: Cluster, made: dict[str, Any]) -> TrainedJob:
        """Submit it and record what becomes of it."""
        namespace, name = made["metadata"]["namespace"], made["metadata"]["name"]
        recorder = Recorder(cluster, namespace, name).start()
        cluster.kubectl("apply", "-f", "-", stdin=json.dumps(made))
        return cls(cluster, namespace, name, recorder)

    def status(self) -> dict[str, Any]:
        """What `kubectl get` knows."""
        return dict(json.loads(self.cluster.kubectl("get", "ltj", "-n", self.namespace, self.name, "-o", "json")).get("status") or {})

    def patch(self, **spec: Any) -> None:
        """Change fields of its spec."""
        self.cluster.kubectl("patch", "ltj", self.name, "-n", self.namespace, "--type=merge", "-p", json.dumps({"spec": spec}))

    def attempt(self) -> int:
        """Number of the newest gang."""
        return int(self.status().get("attempt", 0))

    def pod(self, index: int, attempt: int | None = None) -> str:
        """Name of a pod, of the newest gang where no other is asked for."""
        return f"{self.name}-a{attempt or self.attempt()}-{index}"

    def pods(self) -> dict[str, str]:
        """Name -> uid."""
        selector = f"llmtrain.io/job={self.name}"
        found = json.loads(self.cluster.kubectl("get", "pods", "-n", self.namespace, "-l", selector, "-o", "json"))["items"]
        return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in found}

    def node(self, pod: str) -> str:
        """Where it runs."""
        return self.cluster.kubectl("get", "pod", "-n", self.namespace, pod, "-o", "jsonpath={.spec.nodeName}")

    def rank(self, number: int, uid: str) -> psutil.Process:
        """The process of a rank in a pod."""
        inside = json.loads((self.recorder.scratch(uid) / "heartbeat" / f"rank-{number}.json").read_text())["pid"]
        return process_inside(uid, inside)

    def until_steps(self, count: int, since: float, seconds: float = 120) -> None:
        """Wait until so many steps were done since a moment."""
        until(lambda: len(self.recorder.steps_after(since)) >= count, f"{count} steps of {self.name}", seconds)

    def brake(self) -> None:
        """Slow training down, to a step or two a second: rank 0 stands still most of the time."""
        uid = self.recorder.steps[-1].uid
        self._released.clear()
        self._brake = threading.Thread(
            target=self._hold, args=(self.rank(0, uid), self.recorder.scratch(uid) / "metrics.jsonl"), daemon=True
        )
        self._brake.start()

    def release(self) -> None:
        """Full speed again."""
        self._released.set()
        if self._brake is not None:
            self._brake.join()

    @contextmanager
    def at_full_speed(self) -> Iterator[float]:
        """For a fault that starts ranks again. Gives the time; afterwards the new ranks are slowed down."""
        self.release()
        now = time.time()
        yield now
        self.brake()

    def _hold(self, process: psutil.Process, rows: Path) -> None:
        """Stop the rank after each step, for a while."""
        with suppress(psutil.NoSuchProcess, OSError):
            while not self._released.is_set():
                size = rows.stat().st_size
                process.suspend()
                self._released.wait(_STOPPED)
                process.resume()
                while rows.stat().st_size == size and not self._released.wait(0.005):
                    pass


def _pid_inside(process: psutil.Process) -> int | None:
    with suppress(OSError):
        status = Path(f"/proc/{process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1])
    return None
