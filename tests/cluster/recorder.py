"""What befalls the pods of a job over its whole life, and every step that they train. Used by trained_job.py.

The watch is opened again whenever it ends, so it outlives the API server. Steps are read where the kubelet keeps a pod's scratch volume.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster.cluster import Cluster

_EVERY = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A pod as one event of the watch tells it."""

    name: str
    uid: str
    gang: tuple[str, int]
    """uid of its job, and number of its attempt."""

    ended: bool
    """It is gone, or its container is known to have ended."""

    restarts: int
    exit_code: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A row of metrics.jsonl."""

    uid: str
    """Of the pod that wrote it."""

    number: int
    time: float
    loss: float


@dataclass
class Recorder:
    """Records from its start to its end."""

    cluster: Cluster
    namespace: str
    job: str
    watches: list[list[Seen]] = field(default_factory=list)
    """What each watch told; every one begins with all pods that are there."""

    steps: list[Step] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _watch: subprocess.Popen[str] | None = None
    _read: dict[Path, int] = field(default_factory=dict)

    def start(self) -> Recorder:
        """Begin to record."""
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._watch_pods, self._read_steps)]
        for thread in self._threads:
            thread.start()
        return self

    def end(self) -> None:
        """Record no more."""
        self._over.set()
        if self._watch is not None:
            self._watch.terminate()
        for thread in self._threads:
            thread.join()

    @property
    def seen(self) -> Iterator[Seen]:
        """Everything that any watch told."""
        return (seen for watch in self.watches for seen in watch)

    def gangs_at_once(self) -> int:
        """The most attempts of which pods that might run were there at the same time."""
        most = 0
        for watch in self.watches:
            living: dict[str, tuple[str, int]] = {}
            for seen in watch:
                living.pop(seen.uid, None)
                if not seen.ended:
                    living[seen.uid] = seen.gang
                most = max(most, len(set(living.values())))
        return most

    def pause(self, since: float) -> float:
        """Seconds of the longest wait for a step, of those that ended after `since`."""
        times = sorted(step.time for step in self.steps)
        waits = [(after - before) for before, after in itertools.pairwise(times) if after > since]
        return max(waits, default=0.0)

    def trained(self) -> float:
        """Seconds between the steps of each pod, all pods together."""
        pairs = itertools.pairwise(list(self.steps))
        return sum(after.time - before.time for before, after in pairs if before.uid == after.uid)

    def steps_after(self, since: float) -> list[Step]:
        """Steps that ended after a moment, in the order in which they were found."""
        return [step for step in self.steps if step.time > since]

    def scratch(self, uid: str) -> Path:
        """The run directory of a pod, on this machine."""
        found = next(self.cluster.site.root.glob(f"*/kubelet/pods/{uid}/volumes/kubernetes.io~empty-dir/scratch"))
        return found / "run"

    def _watch_pods(self) -> None:
        path = f"/api/v1/namespaces/{self.namespace}/pods?watch=true&labelSelector=llmtrain.io/job%3D{self.job}"
        command = [self.cluster.kubectl_path, f"--kubeconfig={self.cluster.kubeconfig}", "get", "--raw", path]
        while not self._over.is_set():
            told: list[Seen] = []
            self.watches.append(told)
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as self._watch:
                assert self._watch.stdout is not None
                for line in self._watch.stdout:
                    with suppress(ValueError, KeyError):  # a line torn by the end of the server, or one that tells of an error
                        told.append(_seen(json.loads(line)))
            self._over.wait(_EVERY)

    def _read_steps(self) -> None:
        while not self._over.is_set():
            for uid in {seen.uid for seen in self.seen}:
                with suppress(OSError, StopIteration):  # the pod has no volume yet, or none any more
                    self._read_new(uid, self.scratch(uid) / "metrics.jsonl")
            time.sleep(_EVERY)

    def _read_new(self, uid: str, path: Path) -> None:
        with path.open("rb") as file:
            file.seek(self._read.get(path, 0))
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read[path] = self._read.get(path, 0) + len(whole)
        rows = map(json.loads, whole.splitlines())
        self.steps += [Step(uid=uid, number=row["step"], time=row["time"], loss=row["loss"]) for row in rows]


def _seen(event: Any) -> Seen:
    pod = event["object"]
    metadata, status = pod["metadata"], pod.get("status") or {}
    boxes = status.get("containerStatuses") or []
    codes = [box["state"]["terminated"]["exitCode"] for box in boxes if "terminated" in (box.get("state") or {})]
    return Seen(
        name=metadata["name"],
        uid=metadata["uid"],
        gang=(metadata["ownerReferences"][0]["uid"], int(metadata["labels"]["llmtrain.io/attempt"])),
        ended=event["type"] == "DELETED" or bool(codes) or status.get("phase") in ("Succeeded", "Failed"),
        restarts=sum(box["restartCount"] for box in boxes),
        exit_code=codes[0] if codes else None,
    )
