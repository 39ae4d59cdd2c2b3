"""Gangs with many agents: few are asked, the right ones, and others where node 0 says nothing. And all jobs at once."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from llmtrain_operator.kube.api.client import Client
from llmtrain_operator.kube.gangs.detect import GangApis
from llmtrain_operator.kube.judging.planner import Planner
from llmtrain_operator.kube.names import numbers
from llmtrain_operator.kube.observe.agents import Agents
from llmtrain_operator.kube.observe.observe import ASKED_AGENTS, Observer

MANY = 2 * ASKED_AGENTS + 8
SPEC = {
    "model": {"config": {}},
    "tokenizer": {"source": "hf://acme/tokenizer"},
    "dataset": [{"source": "hf://acme/text"}],
    "training": {"globalBatchSize": 64, "sequenceLength": 64, "maxSteps": 10},
}


def job(name: str = "job", namespace: str = "team") -> dict[str, Any]:
    return {
        "apiVersion": "llmtrain.io/v1alpha1",
        "kind": "LLMTrainJob",
        "metadata": {"name": name, "namespace": namespace, "uid": f"{namespace}-{name}", "generation": 1},
        "spec": SPEC,
    }


def pod(index: int, attempt: int = 1, ready: bool = True, owner: str = "team-job", name: str = "job", namespace: str = "team") -> Any:
    controller = {"apiVersion": "llmtrain.io/v1alpha1", "kind": "LLMTrainJob", "name": name, "uid": owner, "controller": True}
    meta = {"name": f"{name}-a{attempt}-{index}", "namespace": namespace, "labels": {"llmtrain.io/job": name}}
    running = {"name": "trainer", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    status = {"phase": "Running", "conditions": conditions, "containerStatuses": [running]}
    return {"metadata": {**meta, "uid": f"p{index}", "ownerReferences": [controller]}, "spec": {"nodeName": f"n{index}"}, "status": status}


class Gang:
    """A job whose pods all run; `silent` agents answer with an error."""

    def __init__(self, server: Any) -> None:
        self.server, self.pods, self.silent = server, [pod(index) for index in range(MANY)], set[int]()
        server.answer = self.answer

    def answer(self, sent: Any) -> tuple[int, Any]:
        if sent.path.startswith("/agent/"):
            index = int(sent.path.rpartition("/")[2])
            status = {"job": "job", "attempt": 1, "node_rank": index, "phase": "training"}
            return (500, b"") if index in self.silent else (200, status)
        if sent.path.endswith("/llmtrainjobs/job"):
            return 200, job()
        return (200, {"items": self.pods}) if sent.path.endswith("/pods") else (200, {"items": []})

    def asked(self) -> list[int]:
        found = [int(sent.path.rpartition("/")[2]) for sent in self.server.sent if sent.path.startswith("/agent/")]
        assert len(found) == len(set(found)), "an agent was asked twice in one look"
        return sorted(found)


@pytest.fixture
def gang(server: Any) -> Gang:
    return Gang(server)


@pytest.fixture
async def observer(client: Client, server: Any) -> AsyncIterator[Observer]:
    def url(raw: Any) -> str | None:
        found = numbers("job", raw["metadata"]["name"])
        return f"{server.url}/agent/{found[1]}" if found else None

    async with aiohttp.ClientSession() as http:
        yield Observer(client, Agents(http), Planner(), GangApis(versions={}), url_of=url)


async def look(observer: Observer) -> set[int]:
    """Indices of the agents whose answers are known."""
    seen = await observer.observe("team", "job")
    assert seen is not None
    return set(seen.observed.agents)


async def test_of_a_healthy_large_gang_the_agent_of_node_0_alone_is_asked(gang: Gang, observer: Observer) -> None:
    assert await look(observer) == {0} and gang.asked() == [0]


async def test_a_small_gang_is_asked_whole(gang: Gang, observer: Observer) -> None:
    gang.pods = gang.pods[:ASKED_AGENTS]
    assert await look(observer) == set(range(ASKED_AGENTS)) and gang.asked() == list(range(ASKED_AGENTS))


async def test_agents_of_pods_that_are_not_ready_are_asked_too(gang: Gang, observer: Observer) -> None:
    gang.pods[7], gang.pods[30] = pod(7, ready=False), pod(30, ready=False)
    assert await look(observer) == {0, 7, 30} and gang.asked() == [0, 7, 30]


async def test_a_pod_that_is_being_deleted_counts_as_one_that_is_not_ready(gang: Gang, observer: Observer) -> None:
    gang.pods[9]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    await look(observer)
    assert gang.asked() == [0, 9]


async def test_while_node_0_is_silent_a_bounded_number_of_others_is_asked(gang: Gang, observer: Observer) -> None:
    gang.silent, gang.pods[5] = {0}, pod(5, ready=False)
    others = [index for index in range(1, MANY) if index != 5][:ASKED_AGENTS]
    assert await look(observer) == {5, *others}
    assert gang.asked() == sorted([0, 5, *others])


async def test_agents_of_earlier_attempts_and_of_other_jobs_are_not_asked(gang: Gang, observer: Observer) -> None:
    gang.pods = [pod(0), pod(1), pod(2, attempt=3), pod(3, attempt=3, owner="an-earlier-job")]
    await look(observer)
    assert gang.asked() == [2]


async def test_an_agent_without_an_address_is_not_asked(gang: Gang, client: Client) -> None:
    async with aiohttp.ClientSession() as http:
        seen = await Observer(client, Agents(http), Planner(), GangApis(versions={}), url_of=lambda _: None).observe("team", "job")
    assert seen is not None and seen.observed.agents == {} and gang.asked() == []


# ---- all jobs at once ------------------------------------------------------------------------------------------------------


def fleet(server: Any, pods: list[Any], jobs: list[Any]) -> None:
    def answer(sent: Any) -> tuple[int, Any]:
        within = sent.path.split("/namespaces/")[1].split("/")[0] if "/namespaces/" in sent.path else None
        items = pods if sent.path.endswith("/pods") else jobs
        return 200, {"items": json.loads(json.dumps([one for one in items if within in (None, one["metadata"]["namespace"])]))}

    server.answer = answer


async def all_of(client: Client, *namespaces: str) -> dict[str, list[str]]:
    """Names of the pods of each job."""
    async with aiohttp.ClientSession() as http:
        observer = Observer(client, Agents(http), Planner(), GangApis(versions={}), wall=lambda: 7.0)
        found = [seen async for seen in observer.all(namespaces)]
    assert {seen.now for seen in found} <= {7.0}
    return {seen.job.key: [one.name for one in seen.pods] for seen in found}


async def test_every_job_is_seen_with_its_own_pods(server: Any, client: Client) -> None:
    pods = [
        pod(0),
        pod(1),
        pod(0, name="other", owner="team-other"),
        pod(0, namespace="ops", owner="ops-job"),
        {"metadata": {"name": "stray", "namespace": "team", "labels": None}},
        {"metadata": {"name": "job-a1-7", "namespace": "team", "labels": {"llmtrain.io/job": "job"}}},
    ]
    fleet(server, pods, [job(), job("other"), job("idle"), job(namespace="ops")])
    assert await all_of(client) == {
        "team/job": ["job-a1-0", "job-a1-1"],
        "team/other": ["other-a1-0"],
        "team/idle": [],
        "ops/job": ["job-a1-0"],
    }
    assert [sent.path for sent in server.sent] == ["/api/v1/pods", "/apis/llmtrain.io/v1alpha1/llmtrainjobs"]
    assert server.sent[0].query["labelSelector"] == "llmtrain.io/job", "pods of others are not read"


async def test_only_namespaces_that_are_watched_are_read(server: Any, client: Client) -> None:
    fleet(server, [pod(0), pod(0, namespace="ops", owner="ops-job")], [job(), job(namespace="ops"), job(namespace="elsewhere")])
    assert await all_of(client, "team", "ops") == {"team/job": ["job-a1-0"], "ops/job": ["job-a1-0"]}
    assert all("/namespaces/" in sent.path for sent in server.sent)


async def test_a_manifest_that_is_wrong_takes_no_other_along(server: Any, client: Client) -> None:
    wrong = {**job("wrong"), "spec": {"task": "juggle"}}
    fleet(server, [pod(0, name="wrong", owner="team-wrong")], [wrong, job()])
    assert await all_of(client) == {"team/wrong": ["wrong-a1-0"], "team/job": []}
