"""Scheduler and kubelets, a step at a time: pods get nodes, containers start and end, and what ended is written into the pod."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.operator.lab.server import ENDED, ApiServer, stamp

from llmtrain_operator.kube.api.client import Object
from llmtrain_operator.life.from_objects import CONTAINER
from llmtrain_trainer.config import ExitCode


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a trainer's container ends. `verdict` is what its agent leaves; None: it leaves nothing."""

    code: int
    verdict: dict[str, Any] | None = None
    reason: str | None = None
    """The container's own, such as OOMKilled."""

    evicted: str | None = None
    """By the kubelet, which fails the pod itself, with this message."""

    disruption: str | None = None
    """Reason of a DisruptionTarget condition that is set before."""


def said(code: int, reason: str, message: str, **more: Any) -> Exit:
    """An agent that ends with a verdict."""
    return Exit(code=code, verdict={"exitCode": int(code), "reason": reason, "message": message} | more)


SAVED = said(ExitCode.SAVED, "Saved", "Told to stop; saved.")
DONE = said(ExitCode.DONE, "Done", "Training is complete.")
LOST = said(ExitCode.RANK_FAILED, "PeerLost", "Lost the other nodes: no answer for 600 s.")

Ends = Callable[[Object], Exit | None]
"""How a running pod's trainer ends now; None: it goes on."""

Fits = Callable[[Object, Object], bool]
"""Whether a pod may go to a node, besides what the node has left."""


def anywhere(_pod: Object, _node: Object) -> bool:
    return True


@dataclass(slots=True)
class Box:
    """What a kubelet knows of a pod."""

    started: float
    told: float | None = None
    """When it was told to end."""


@dataclass(slots=True)
class Kubelets:
    """`places` of each node are pods it can hold; a node in `dead` confirms nothing and runs nothing; one in `away` runs on unheard."""

    server: ApiServer
    wall: Callable[[], float]
    places: int = 1
    fits: Fits = anywhere
    slow: dict[str, float] = field(default_factory=dict)
    """Node -> seconds from a pod's being given it to its container, such as for a large image; 0 elsewhere."""

    saves_in: float = 2.0
    """Seconds from being told to end to the end."""

    dead: set[str] = field(default_factory=set)
    away: set[str] = field(default_factory=set)
    boxes: dict[str, Box] = field(default_factory=dict)

    def add_node(self, name: str) -> None:
        condition = {"type": "Ready", "status": "True", "lastTransitionTime": stamp(self.wall())}
        self.server.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {}, "status": {"conditions": [condition]}})

    def set_ready(self, name: str, ready: bool) -> None:
        """What the node's controller does: the pods of a node that is not ready are not ready either."""
        node = next(node for node in self.server.find("Node") if node["metadata"]["name"] == name)
        status = "True" if ready else "Unknown"
        node["status"]["conditions"] = [{"type": "Ready", "status": status, "lastTransitionTime": stamp(self.wall())}]
        for pod in self.server.find("Pod"):
            if pod["spec"].get("nodeName") == name and pod["status"]["phase"] == "Running":
                _condition(pod, "Ready", "True" if ready else "False", self.wall())
                self.server.touched(pod)

    def runs(self, pod: Object) -> bool:
        """Whether its trainer truly runs."""
        return pod["metadata"]["uid"] in self.boxes and pod["spec"].get("nodeName") not in self.dead

    def age(self, pod: Object) -> float:
        """Seconds its trainer runs."""
        return self.wall() - self.boxes[pod["metadata"]["uid"]].started

    def step(self, ends: Ends) -> None:
        """Everything moves on."""
        for pod in self.server.find("Pod"):
            if pod["spec"].get("nodeName") is None:
                self._schedule(pod)
        for pod in self.server.find("Pod"):
            node = pod["spec"].get("nodeName")
            if node is None or node in self.dead or node in self.away:
                continue
            if pod["metadata"]["uid"] in self.boxes:
                self._run(pod, ends)
            elif pod["metadata"].get("deletionTimestamp"):
                self._gone(pod)
            elif pod["status"]["phase"] == "Pending":
                self._start(pod)

    # ---- one pod -------------------------------------------------------------------------------------------------------------

    def _schedule(self, pod: Object) -> None:
        if pod["spec"].get("schedulingGates") or pod["metadata"].get("deletionTimestamp"):
            return
        avoided = _avoided(pod)
        free = [node for node in self.server.find("Node") if self._free(node) and self.fits(pod, node)]
        name = min((node["metadata"]["name"] for node in free), key=lambda name: (name in avoided, len(name), name), default=None)
        if name is not None:
            pod["spec"]["nodeName"] = name
            pod["status"]["startTime"] = stamp(self.wall())
            _condition(pod, "PodScheduled", "True", self.wall())
        elif any(found.get("reason") == "Unschedulable" for found in pod["status"].get("conditions") or []):
            return
        else:
            count = len(self.server.find("Node"))
            told = {"reason": "Unschedulable", "message": f"0/{count} nodes are available: {count} Insufficient nvidia.com/gpu."}
            _condition(pod, "PodScheduled", "False", self.wall(), **told)
        self.server.touched(pod)

    def _free(self, node: Object) -> bool:
        name = node["metadata"]["name"]
        ready = node["status"]["conditions"][0]["status"] == "True" and not node["spec"].get("unschedulable")
        held = [pod for pod in self.server.find("Pod") if pod["spec"].get("nodeName") == name and pod["status"]["phase"] not in ENDED]
        return ready and len(held) < self.places

    def _start(self, pod: Object) -> None:
        scheduled = next(found for found in pod["status"]["conditions"] if found["type"] == "PodScheduled")
        if stamp(self.wall() - self.slow.get(pod["spec"]["nodeName"], 0.0)) < scheduled["lastTransitionTime"]:
            return
        self.boxes[pod["metadata"]["uid"]] = Box(started=self.wall())
        names = [box["name"] for box in pod["spec"]["containers"]]
        running = {"running": {"startedAt": stamp(self.wall())}}
        pod["status"] |= {
            "phase": "Running",
            "podIP": "10.0.0.1",
            "containerStatuses": [{"name": name, "state": running} for name in names],
        }
        _condition(pod, "Ready", "True", self.wall())
        self.server.touched(pod)

    def _run(self, pod: Object, ends: Ends) -> None:
        box = self.boxes[pod["metadata"]["uid"]]
        if pod["metadata"].get("deletionTimestamp") and box.told is None:
            box.told = self.wall()
        if _trainer(pod).get("terminated"):  # a container beside it runs on, until the pod is told to end
            if box.told is not None:
                self._gone(pod)
            return
        ended = ends(pod)
        if ended is None and box.told is not None and self.wall() - box.told >= self.saves_in:
            ended = SAVED
        if ended is not None:
            self._exit(pod, ended)

    def _exit(self, pod: Object, how: Exit) -> None:
        if how.disruption:
            _condition(pod, "DisruptionTarget", "True", self.wall(), reason=how.disruption, message="It is taken away.")
        uid, status = pod["metadata"]["uid"], pod["status"]
        state = {
            "exitCode": int(how.code),
            "reason": how.reason or ("Completed" if how.code == 0 else "Error"),
            "startedAt": stamp(self.boxes[uid].started),
            "finishedAt": stamp(self.wall()),
            "message": json.dumps(how.verdict) if how.verdict else "",
        }
        next(found for found in status["containerStatuses"] if found["name"] == CONTAINER)["state"] = {"terminated": state}
        if how.evicted:
            status |= {"phase": "Failed", "reason": "Evicted", "message": how.evicted}
        elif len(status["containerStatuses"]) == 1:
            status["phase"] = "Failed" if how.code else "Succeeded"
        _condition(pod, "Ready", "False", self.wall())
        if status["phase"] in ENDED:
            del self.boxes[uid]
        self.server.touched(pod)

    def _gone(self, pod: Object) -> None:
        """The kubelet confirms that nothing of the pod runs any more."""
        self.boxes.pop(pod["metadata"]["uid"], None)
        meta = pod["metadata"]
        self.server.remove(f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}")


def _trainer(pod: Object) -> dict[str, Any]:
    return dict(next(found for found in pod["status"]["containerStatuses"] if found["name"] == CONTAINER)["state"])


def _condition(pod: Object, kind: str, status: str, now: float, **more: str) -> None:
    kept = [found for found in pod["status"].get("conditions") or [] if found["type"] != kind]
    pod["status"]["conditions"] = [*kept, {"type": kind, "status": status, "lastTransitionTime": stamp(now)} | more]


def _avoided(pod: Object) -> set[str]:
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    terms = affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or []
    return {value for term in terms for found in term["preference"]["matchFields"] for value in found["values"]}
