"""Thousands of jobs that nobody should write, against the real API server and the operator, with good ones among them.

LLMTRAIN_ODD_JOBS says how many (`make fuzz`: 10,000), LLMTRAIN_SEED which.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.cluster.cluster import ON_SIMULATED, Cluster
from tests.cluster.odd_jobs import lift_finalizers, odd_job, odd_patch
from tests.cluster.operators import Operator

from llmtrain_operator.kube.api.client import Client, Object, path_of
from llmtrain_operator.kube.api.session import Sessions, credentials
from llmtrain_operator.kube.metrics.operator import OperatorMetrics

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(560)]

ODD, SEED = int(os.environ.get("LLMTRAIN_ODD_JOBS", "2000")), int(os.environ.get("LLMTRAIN_SEED", "1"))
GOOD_EVERY = 100
API = "llmtrain.io/v1alpha1"
SHAPE = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 172}
SHAPE |= {"num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 512, "max_position_embeddings": 64}
SENTENCE = re.compile(r"\S.*? is .+?: .+\. .+\.|\S+: .+\. .+\.", re.DOTALL)
"""Field, value, rule, way out."""

FIELD = re.compile(r"\b(spec|metadata|status)\b|ObjectMeta|unknown field \"\w")
REFUSALS = {400, 403, 409, 413, 422}


def good_job(namespace: str, name: str) -> Object:
    """One of two pods that land on simulated nodes."""
    spec = {
        "model": {"config": SHAPE},
        "tokenizer": {"train": {"algorithm": "bpe", "vocabSize": 512}},
        "dataset": [{"source": "file:///data/books.txt"}],
        "training": {"globalBatchSize": 8, "microBatchSize": 1, "sequenceLength": 64, "maxSteps": 100, "precision": "fp32"},
        "resources": {"nodes": 2, "procsPerNode": 4},
        "scheduling": {
            "gang": "none",  # nothing but the odd jobs themselves may hold it up
            **ON_SIMULATED,
        },
    }
    return {"apiVersion": API, "kind": "LLMTrainJob", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


@dataclass
class Crowd:
    """Sends jobs, thirty-two at a time, and keeps what was answered."""

    http: aiohttp.ClientSession
    client: Client
    server: str
    namespace: str
    answers: Counter[int] = field(default_factory=Counter)
    wordless: list[str] = field(default_factory=list)
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(32))

    async def send(self, method: str, path: str, body: Any, content: str = "application/json") -> int:
        query = {"fieldValidation": "Strict"}
        async with (
            self.gate,
            self.http.request(method, self.server + path, params=query, json=body, headers={"Content-Type": content}) as answer,
        ):
            said = await answer.json(content_type=None)
        self.answers[answer.status] += 1
        if (
            answer.status >= 300
            and (answer.status not in REFUSALS or not FIELD.search(said["message"]))
            and said.get("reason") != "AlreadyExists"
        ):
            self.wordless.append(f"{answer.status} {said}")
        return answer.status

    async def odd(self, number: int) -> None:
        """Create one; every seventh that is accepted has something happen to it later."""
        job = odd_job(good_job(self.namespace, "odd"), number, SEED)
        code = await self.send("POST", path_of(API, "LLMTrainJob", self.namespace), job)
        name = job["metadata"].get("name")
        if code == 201 and number % 7 == 0 and name:
            subresource, change = odd_patch(number, SEED)
            path = path_of(API, "LLMTrainJob", self.namespace, name) + subresource
            await self.send("PATCH", path, change, "application/merge-patch+json")

    async def good(self, number: int) -> None:
        assert await self.send("POST", path_of(API, "LLMTrainJob", self.namespace), good_job(self.namespace, f"good-{number}")) == 201

    async def jobs(self) -> list[Object]:
        return await self.client.list(path_of(API, "LLMTrainJob", self.namespace))


@asynccontextmanager
async def crowd(cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Crowd]:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    info, token = credentials()
    async with Sessions(info, OperatorMetrics(), token).open() as http:
        yield Crowd(http, Client(http, info.server), info.server, namespace)


async def settled(found: Crowd, seconds: float) -> list[Object]:
    """Every job once the operator has said something of each that is its own, as it stands now."""
    deadline = time.monotonic() + seconds
    while True:
        jobs = await found.jobs()
        waits = [job["metadata"]["name"] for job in jobs if is_ours(job) and not judged(job)]
        if not waits:
            return jobs
        assert time.monotonic() < deadline, f"{len(waits)} of {len(jobs)} jobs were not judged, {waits[:5]} among them"
        await asyncio.sleep(5)  # thousands of jobs are a heavy list


def is_ours(job: Object) -> bool:
    """Not one that says another controller runs it, nor one whose status was overwritten as final before the operator came to it."""
    return job["spec"].get("managedBy") in (None, "llmtrain.io/operator") and (job.get("status") or {}).get("phase") not in (
        "Complete",
        "Failed",
    )


def judged(job: Object) -> bool:
    return planned(job).get("observedGeneration") == job["metadata"]["generation"]


def planned(job: Object) -> Object:
    conditions = (job.get("status") or {}).get("conditions") or []
    return next((one for one in conditions if one["type"] == "Planned"), {})


def all_of(calls: Iterable[Awaitable[Any]]) -> Awaitable[list[Any]]:
    return asyncio.gather(*calls)


async def test_no_job_is_so_odd_that_it_ends_the_operator_or_stops_a_good_one(
    own: Cluster, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.add_simulated_nodes(4)
    own.define_jobs()
    operator = Operator.start(own, tmp_path / "operator.log", namespace, watched=[namespace])
    try:
        operator.leads()
        async with crowd(own, namespace, monkeypatch) as found:
            numbers = range(0, ODD, GOOD_EVERY)
            for first in numbers:
                await all_of([found.good(first), *(found.odd(number) for number in range(first, min(first + GOOD_EVERY, ODD)))])
            jobs = await settled(found, 240)
            pods = await found.client.list(path_of("v1", "Pod", namespace), labelSelector="llmtrain.io/job")
            await lift_finalizers(found.client, namespace, jobs)
        assert found.wordless == [], "the API server refused these without naming a field"
        assert found.answers[201] > ODD / 10 and found.answers[422] > ODD / 10, found.answers
        owners = Counter(pod["metadata"]["ownerReferences"][0]["name"] for pod in pods)
        assert {number: owners[f"good-{number}"] for number in numbers} == dict.fromkeys(numbers, 2)
        refused = [planned(job)["message"] for job in jobs if planned(job).get("status") == "False"]
        assert len(refused) > ODD / 100 and [said for said in refused if not SENTENCE.fullmatch(said)] == []
        assert operator.process.poll() is None
        log = operator.log.read_text()
        assert "Traceback" not in log and '"exc_info"' not in log, [
            line for line in log.splitlines() if "Traceback" in line or "exc_info" in line
        ][:3]
    finally:
        ended = operator.end() if operator.process.poll() is None else operator.process.returncode
        print(found.answers if "found" in locals() else "", operator.log.read_text()[-4000:])
    assert ended == 0
