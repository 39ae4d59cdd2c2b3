"""The operator's own Observer, Agents, Reconciler, Turns, DestinationOwners and WorkQueue on a cluster in memory, in virtual time.

A day of a job takes seconds: `await lab.run(24 * 3600, tick=5)`. What the world does is said in a few hooks; the operator is the real one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from tests.operator.lab.kubelets import Ends, Exit, Fits, Kubelets, anywhere
from tests.operator.lab.server import ApiServer
from tests.operator.lab.trainers import Http, Trainers, key_of

from llmtrain_operator.api.job import GROUP, KIND, VERSION
from llmtrain_operator.kube.api.client import ApiError, Object
from llmtrain_operator.kube.api.events import Recorder
from llmtrain_operator.kube.gangs.detect import GangApis
from llmtrain_operator.kube.jobs.checkpoint_owners import DestinationOwners
from llmtrain_operator.kube.jobs.placement_order import Turns
from llmtrain_operator.kube.jobs.reconcile import Reconciler
from llmtrain_operator.kube.judging.planner import Planner
from llmtrain_operator.kube.judging.shapes import Shapes
from llmtrain_operator.kube.kind import Controller, Kind, Leading
from llmtrain_operator.kube.metrics.operator import OperatorMetrics
from llmtrain_operator.kube.names import JobKey, Key, ObjectName
from llmtrain_operator.kube.observe.agents import Agents
from llmtrain_operator.kube.observe.observe import Observer
from llmtrain_operator.kube.process.handlers import KnownObjects
from llmtrain_operator.kube.process.kinds import KINDS
from llmtrain_operator.kube.process.queue import WorkQueue
from llmtrain_operator.kube.process.workers import work_on
from llmtrain_operator.kube.render_settings import RenderSettings
from llmtrain_operator.kube.resources import JOBS

T0 = 1_800_000_000.0
CLUSTER = RenderSettings(image="trainer:1")

TINY: dict[str, Any] = {
    "model": {
        "config": {
            "model_type": "llama",
            "hidden_size": 64,
            "intermediate_size": 172,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "vocab_size": 512,
            "max_position_embeddings": 64,
        }
    },
    "tokenizer": {"source": "s3://models/tok"},
    "dataset": [{"source": "s3://data/t.jsonl"}],
    "training": {"globalBatchSize": 8, "sequenceLength": 64, "maxSteps": 1_000_000, "precision": "fp32"},
    "resources": {"nodes": 2},
}


def goes_on(_pod: Object) -> Exit | None:
    return None


class Lab:
    """`ends` says of a running pod how its trainer ends now, `fits` whether a node may take a pod, `groups` what else is served.

    `server`, `kubelets` and `trainers` are the world; `reconciler`, `queue`, `turns` and `destinations` are the operator's own.
    """

    def __init__(
        self,
        nodes: int = 4,
        *,
        places: int = 1,
        fits: Fits = anywhere,
        ends: Ends = goes_on,
        groups: dict[str, str] | None = None,
        kinds: Sequence[Kind] = (),
    ) -> None:
        self.now = T0
        self.queue = WorkQueue[Key](clock=self.clock, jitter=lambda: 1.0)
        self.server = ApiServer(self.clock, self._watched)
        self.server.groups |= groups or {}
        self.kubelets = Kubelets(self.server, self.clock, places=places, fits=fits)
        self.trainers = Trainers(self.server, self.kubelets, ends)
        self.errors: list[tuple[float, Key, str]] = []
        """Reconciles that the API server ended: seconds, object, what it said."""

        self._marks, self._kinds = KnownObjects(), (*KINDS, *kinds)
        self._controllers: dict[str, Controller] = {}
        for index in range(nodes):
            self.kubelets.add_node(f"n{index}")
        self.operator_starts()

    def clock(self) -> float:
        return self.now

    def operator_starts(self) -> None:
        """A fresh operator, which remembers nothing but what it finds."""
        metrics, look = OperatorMetrics(), partial(self._look, JOBS.kind)
        agents = Agents(Http(self.server, self.trainers), wall=self.clock, wake=look)  # type: ignore[arg-type]
        gangs = GangApis(versions=self.server.groups)
        observer = Observer(self.server, agents, Planner(clock=self.clock), gangs, wall=self.clock, url_of=_url_of)
        recorder = Recorder(self.server, metrics, "lab", clock=self.clock, wall=self.clock)
        self.turns, self.destinations = Turns(look), DestinationOwners(look)
        self.reconciler = Reconciler(self.server, observer, recorder, metrics, CLUSTER, self.turns, self.destinations, clock=self.clock)
        self._controllers = {JOBS.kind: self.reconciler}

    async def _others_begin(self) -> None:
        """Controllers of the test's own kinds."""
        for kind in self._kinds:
            name = kind.resource.kind
            if name not in self._controllers:
                shapes, look = Shapes(below=()), partial(self._look, name)
                leading = Leading(client=self.server, metrics=OperatorMetrics(), settings=CLUSTER, identity="lab", shapes=shapes, look=look)
                self._controllers[name] = await kind.begin(leading).__aenter__()
                await self._controllers[name].take_over(())

    def _look(self, kind: str, key: ObjectName) -> None:
        self.queue.add(Key(kind, *key))

    # ---- what people do ------------------------------------------------------------------------------------------------------

    def submit(self, name: str, namespace: str = "team", **sections: Any) -> JobKey:
        """Create a job of two pods that stores its checkpoints; `sections` of its spec are put in place of others."""
        meta = {"name": name, "namespace": namespace, "generation": 1}
        spec = {**TINY, "checkpoint": {"destination": f"s3://bucket/{namespace}/{name}"}, **sections}
        self.server.put({"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "metadata": meta, "spec": spec})
        return namespace, name

    def edit(self, key: JobKey, **sections: Any) -> None:
        """Change sections of its spec."""
        job = self.job(key)
        job["spec"] |= sections
        job["metadata"]["generation"] += 1
        self.server.touched(job)

    async def delete(self, found: Object, *, grace: int | None = None, orphan: bool = False) -> None:
        """As `kubectl delete` of any object."""
        options = ({"gracePeriodSeconds": grace} if grace is not None else {}) | ({"propagationPolicy": "Orphan"} if orphan else {})
        await self.server._send("DELETE", next(path for path, one in self.server.store.items() if one is found), options)

    # ---- what is there -------------------------------------------------------------------------------------------------------

    def job(self, key: JobKey) -> Object:
        return self.server.store[f"/apis/{GROUP}/{VERSION}/namespaces/{key[0]}/llmtrainjobs/{key[1]}"]

    def status(self, key: JobKey) -> Object:
        """The job's status as it was written last."""
        return dict(self.job(key).get("status") or {})

    def pods(self, key: JobKey | None = None) -> list[Object]:
        """Pods that carry a job's label; all pods of the cluster without `key`."""
        return [pod for pod in self.server.find("Pod") if key is None or key_of(pod) == key]

    def events(self, key: JobKey) -> list[str]:
        """Reason and message of the events on a job."""
        found = [event for event in self.server.find("Event", key[0]) if event["involvedObject"]["name"] == key[1]]
        return [f"{event['reason']}: {event['message']}" for event in found]

    def requests(self, method: str, ending: str) -> int:
        """How many requests of a method were sent to paths with this ending."""
        return sum(sent == method and path.endswith(ending) for sent, path in self.server.sent)

    # ---- time ----------------------------------------------------------------------------------------------------------------

    async def run(self, seconds: float, tick: float = 1.0) -> None:
        """Let time pass: the cluster moves on, then the operator works until its queue is empty."""
        await self._others_begin()
        until = self.now + seconds
        while self.now < until:
            self.trainers.step(tick)
            await self._work()
            self.now += tick

    async def _work(self) -> None:
        for _ in range(5000):
            key = self.queue.take()
            if key is None:
                return
            try:
                await work_on(key, self.queue, self._controllers)
            except ApiError as error:  # as kube/process/workers.py: tried again, later each time
                self.queue.failed(key)
                self.errors.append((self.now - T0, key, str(error)))
            finally:
                self.queue.done(key)
        raise AssertionError("the operator never comes to rest")

    def _watched(self, event: str, found: Object) -> None:
        """As kube/process/handlers.py."""
        meta = found["metadata"]
        for kind in self._kinds:
            resource = kind.resource
            key = Key(resource.kind, meta.get("namespace", ""), meta["name"])
            if found["kind"] == resource.kind and self._marks.is_news(key, event, meta):
                self.queue.add(key)
            for follow in kind.follows:
                if found["kind"] == follow.kind and (name := (meta.get("labels") or {}).get(follow.label)):
                    self.queue.add_soon(Key(resource.kind, meta["namespace"] if resource.namespaced else "", name))


def _url_of(pod: Object) -> str:
    """Agents of the lab are found by the path of their pod."""
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
