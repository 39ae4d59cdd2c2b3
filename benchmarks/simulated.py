"""A cluster of simulated nodes with one operator, and what a benchmark sees of both. Used by benchmarks/operator_scale.py.

etcd, API server, controller manager and scheduler are real, kwok plays the kubelets. What is measured is counted outside the operator:
pods by a watch of their metadata alone, its CPU and memory by the system.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from loading import ROOT

sys.path.insert(0, str(ROOT))

from tests.cluster.cluster import Cluster, free_index, simulated_node
from tests.cluster.odd_jobs import lift_finalizers
from tests.cluster.operators import Operator, Samples, samples_of

from llmtrain_operator.kube.api.client import ApiError, Client, path_of
from llmtrain_operator.kube.api.session import Sessions, credentials
from llmtrain_operator.kube.metrics.operator import OperatorMetrics

API = "llmtrain.io/v1alpha1"
IN_FLIGHT = 32
SHAPE = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 172,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "max_position_embeddings": 64,
}


@dataclass
class Simulated:
    """The cluster as the benchmark drives it."""

    cluster: Cluster
    client: Client
    http: aiohttp.ClientSession
    watches: aiohttp.ClientSession
    server: str
    scratch: Path
    operator: Operator | None = None

    async def namespace(self, name: str) -> None:
        """Make one, and wait for its account: no pod is admitted before."""
        await self.client.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        await until(lambda: self.client.get(f"/api/v1/namespaces/{name}/serviceaccounts/default"))

    async def api_server(self) -> Samples:
        """What the API server counts."""
        async with self.http.get(f"{self.server}/metrics") as answer:
            text = await answer.text()
        wanted = ("apiserver_request_total", "# TYPE apiserver_request_total")
        return samples_of("\n".join(line for line in text.splitlines() if line.startswith(wanted)) + "\n")

    async def start_operator(self, *more: str) -> Operator:
        """A fresh one that leads."""
        await self.end_operator()
        self.operator = await asyncio.to_thread(Operator.start, self.cluster, self.scratch / "operator.log", "default", more=more)
        await asyncio.to_thread(self.operator.leads)
        return self.operator

    async def end_operator(self) -> None:
        """Tell it to end, and wait."""
        if self.operator is not None:
            await asyncio.to_thread(self.operator.end)
            self.operator = None

    async def create(self, jobs: Iterable[dict[str, Any]]) -> None:
        """Create jobs, many at a time."""
        gate = asyncio.Semaphore(IN_FLIGHT)

        async def one(job: dict[str, Any]) -> None:
            async with gate:
                await self.client.create(path_of(API, "LLMTrainJob", job["metadata"]["namespace"]), job)

        await asyncio.gather(*map(one, jobs))

    async def clear(self, namespace: str) -> None:
        """Delete every job and pod of a namespace, and wait until they are gone, finalizers that nobody serves included."""
        pods, jobs = path_of("v1", "Pod", namespace), path_of(API, "LLMTrainJob", namespace)
        while (left := await self.client.list(jobs)) or await self.client.list(pods):
            for path in (jobs, pods):
                async with self.http.delete(self.server + path, params={"gracePeriodSeconds": "0"}):
                    pass
            await lift_finalizers(self.client, namespace, left)
            await asyncio.sleep(0.5)


@dataclass
class Counted:
    """What a watch has told: which objects were seen with the words, and when."""

    words: bytes
    version: str
    seen: dict[str, float] = field(default_factory=dict)
    """Name -> when it was seen first, by time.perf_counter()."""

    opened: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, line: bytes) -> None:
        """One line of the watch."""
        event = json.loads(line)
        if event["type"] == "ERROR":
            raise RuntimeError(f"the benchmark's own watch failed: {event['object']}")
        self.version = event["object"]["metadata"]["resourceVersion"]
        if self.words in line:
            self.seen.setdefault(event["object"]["metadata"]["name"], time.perf_counter())
            self.changed.set()

    async def reach(self, count: int, within: float) -> float:
        """When there were so many, by time.perf_counter(). Raises TimeoutError."""
        async with asyncio.timeout(within):
            while len(self.seen) < count:
                self.changed.clear()
                await self.changed.wait()
        return max(self.seen.values())


@asynccontextmanager
async def counting(simulated: Simulated, path: str, words: bytes, *, whole: bool = False) -> AsyncIterator[Counted]:
    """Count the objects of a watch of which a line holds `words`; only metadata is sent unless `whole`: the server spends little."""
    listed = await simulated.http.get(simulated.server + path, params={"limit": "1"})
    counted = Counted(words, (await listed.json())["metadata"]["resourceVersion"])
    task = asyncio.create_task(_watch(simulated, path, counted, whole))
    await counted.changed.wait()
    try:
        yield counted
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _watch(simulated: Simulated, path: str, counted: Counted, whole: bool) -> None:
    """The server closes a watch that reads too slowly, as everybody's does under such a load: it goes on where it was."""
    kind = "application/json" if whole else "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
    limit = aiohttp.ClientTimeout(total=None)
    while True:
        params = {"watch": "true", "resourceVersion": counted.version}
        async with simulated.watches.get(simulated.server + path, params=params, headers={"Accept": kind}, timeout=limit) as answer:
            counted.opened += 1
            counted.changed.set()
            rest = b""
            async for chunk in answer.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    counted.take(line)


@asynccontextmanager
async def simulated_cluster(nodes: int) -> AsyncIterator[Simulated]:
    """Start it, with so many nodes of 8 GPUs; all of it ends with the block."""
    cluster = await asyncio.to_thread(Cluster.up, free_index(), nodes=False)
    os.environ["KUBECONFIG"] = str(cluster.kubeconfig)
    info, token = credentials()
    try:
        # Heartbeats of hundreds of nodes would be a load of their own.
        cluster.stop("kube-controller-manager")
        cluster.start("kube-controller-manager", "--node-monitor-grace-period=30m")
        cluster.start("kwok", "--node-lease-duration-seconds=1200")
        with tempfile.TemporaryDirectory() as scratch:
            sessions = Sessions(info, OperatorMetrics(), token)
            async with sessions.open() as http, sessions.open() as watches:
                made = Simulated(cluster, Client(http, info.server), http, watches, info.server, Path(scratch))
                await _install(made, nodes)
                try:
                    yield made
                finally:
                    await made.end_operator()
    finally:
        await asyncio.to_thread(cluster.down)


async def _install(simulated: Simulated, nodes: int) -> None:
    """The CRD, and the nodes."""
    apply = ("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds" / "llmtrain.io_llmtrainjobs.yaml"))
    await asyncio.to_thread(simulated.cluster.kubectl, *apply)
    gate = asyncio.Semaphore(IN_FLIGHT)

    async def one(number: int) -> None:
        async with gate:
            await simulated.client.create("/api/v1/nodes", dict(simulated_node(f"simulated-{number}")))

    await asyncio.gather(*(one(number) for number in range(nodes)))
    await until(lambda: _all_ready(simulated, nodes))
    await until(lambda: _served(simulated))


async def until(holds: Callable[[], Awaitable[object]]) -> None:
    """Ask again and again until the answer is something."""
    while not await holds():  # noqa: ASYNC110 - it happens in another process
        await asyncio.sleep(0.1)


async def _served(simulated: Simulated) -> bool:
    with suppress(ApiError):
        await simulated.client.list(path_of(API, "LLMTrainJob"))
        return True
    return False


async def _all_ready(simulated: Simulated, nodes: int) -> bool:
    return len([node for node in await simulated.client.list("/api/v1/nodes") if _ready(node)]) == nodes


def _ready(node: dict[str, Any]) -> bool:
    return any(one["type"] == "Ready" and one["status"] == "True" for one in (node.get("status") or {}).get("conditions") or [])


def job(namespace: str, name: str, pods: int, gpus: int, gang: str = "auto", lives: str | None = None) -> dict[str, Any]:
    """A small job of `pods` nodes with `gpus` each; with `lives` its pods end by themselves."""
    selector = {"type": "kwok"} | ({"lives": lives} if lives else {})
    spec = {
        "model": {"config": SHAPE},
        "tokenizer": {"train": {"algorithm": "bpe", "vocabSize": 512}},
        "dataset": [{"source": "file:///data/books.txt"}],
        "training": {"globalBatchSize": pods * gpus, "microBatchSize": 1, "sequenceLength": 64, "maxSteps": 100},
        "resources": {"nodes": pods, "gpusPerNode": gpus, "gpu": "H100-80GB"},
        "scheduling": {
            "gang": gang,
            "nodeSelector": selector,
            "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}],
        },
    }
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": API, "kind": "LLMTrainJob", "metadata": metadata, "spec": spec}
