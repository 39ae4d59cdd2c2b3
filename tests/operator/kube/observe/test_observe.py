"""What is read for a look at a job, and what an agent's word is worth."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from yarl import URL

from llmtrain_operator.kube.api.client import ApiError, Client
from llmtrain_operator.kube.api.shared_read import FRESH_SECONDS, SharedRead
from llmtrain_operator.kube.gangs.detect import GangApis, gang_of
from llmtrain_operator.kube.judging.planner import Planner
from llmtrain_operator.kube.observe.agents import LARGEST_ANSWER, Agents
from llmtrain_operator.kube.observe.observe import Observer
from llmtrain_operator.life.from_objects import job_of

TRAINING = {"globalBatchSize": 8, "sequenceLength": 64, "maxSteps": 10}
JOB: dict[str, Any] = {
    "apiVersion": "llmtrain.io/v1alpha1",
    "kind": "LLMTrainJob",
    "metadata": {"name": "job", "namespace": "team", "uid": "u1", "generation": 1},
    "spec": {
        "model": {"config": {}},
        "tokenizer": {"source": "hf://acme/tokenizer"},
        "dataset": [{"source": "hf://acme/text"}],
        "training": TRAINING,
    },
}
AGENT = {"job": "job", "attempt": 1, "node_rank": 0, "phase": "training"}


class Cluster:
    """A job, its pods, the node they are on, and the agent of pod 0, all behind one address."""

    def __init__(self, server: Any) -> None:
        self.server, self.url = server, URL(server.url)
        self.ready, self.running, self.nodes_forbidden = "True", True, False
        self.agent: tuple[int, Any] = (200, AGENT)
        self.created: str | None = None
        server.answer = self.answer

    def pod(self, owner: str = "u1") -> dict[str, Any]:
        state = {"running": {"startedAt": "2026-01-01T00:00:00Z"}} if self.running else {"waiting": {"reason": "ContainerCreating"}}
        controller = {"apiVersion": "llmtrain.io/v1alpha1", "kind": "LLMTrainJob", "name": "job", "uid": owner, "controller": True}
        metadata: dict[str, Any] = {"name": "job-a1-0", "namespace": "team", "uid": "p0", "ownerReferences": [controller]}
        metadata |= {"creationTimestamp": self.created} if self.created else {}
        metadata["labels"] = {"llmtrain.io/job": "job", "llmtrain.io/attempt": "1", "llmtrain.io/index": "0"}
        ports = [{"name": "http", "containerPort": self.url.port}]
        status = {"podIP": self.url.host, "phase": "Running" if self.running else "Pending"}
        status["conditions"] = [{"type": "Ready", "status": self.ready}]  # type: ignore[assignment]
        status["containerStatuses"] = [{"name": "trainer", "state": state}]  # type: ignore[assignment]
        return {"metadata": metadata, "spec": {"nodeName": "n0", "containers": [{"name": "trainer", "ports": ports}]}, "status": status}

    def answer(self, sent: Any) -> tuple[int, Any]:
        if sent.path == "/status":
            return self.agent
        if sent.path == "/elsewhere":
            return 200, AGENT
        if sent.path.endswith("/llmtrainjobs/job"):
            return 200, JOB
        if sent.path.endswith("/pods"):
            return 200, {"items": [self.pod()]}
        if sent.path.endswith("/nodes/n0") and self.nodes_forbidden:
            return 403, {"reason": "Forbidden", "message": "no"}
        if sent.path.endswith("/nodes/n0"):
            return 200, {"metadata": {"name": "n0"}, "status": {"conditions": [{"type": "Ready", "status": "False"}]}}
        return (200, {"items": []}) if sent.path.endswith("/events") else (404, {"reason": "NotFound", "message": "no"})

    @property
    def asked(self) -> list[str]:
        return [sent.path.rsplit("/", 1)[-1] for sent in self.server.sent]


@pytest.fixture
def cluster(server: Any) -> Cluster:
    return Cluster(server)


@pytest.fixture
async def observer(client: Client) -> AsyncIterator[Observer]:
    async with aiohttp.ClientSession() as agents:
        yield Observer(client, Agents(agents), Planner(), GangApis(versions={}))


async def test_a_healthy_gang_costs_two_requests_and_one_to_its_agent(cluster: Cluster, observer: Observer) -> None:
    observation = await observer.observe("team", "job")
    assert observation is not None and cluster.asked == ["job", "pods", "status"]
    assert observation.observed.agents[0].status.phase == "training"
    assert cluster.server.sent[1].query["labelSelector"] == "llmtrain.io/job=job"


async def test_the_node_of_a_pod_that_is_not_ready_is_read(cluster: Cluster, observer: Observer) -> None:
    cluster.ready = "False"
    observation = await observer.observe("team", "job")
    assert observation is not None and observation.observed.nodes["n0"].not_ready_since is not None


async def test_an_operator_with_rights_in_namespaces_alone_does_without_nodes(cluster: Cluster, observer: Observer) -> None:
    cluster.ready, cluster.nodes_forbidden = "False", True
    observation = await observer.observe("team", "job")
    assert observation is not None and observation.observed.nodes == {} and observation.observed.pods[0].node == "n0"


async def test_warnings_are_read_while_a_pod_does_not_run(cluster: Cluster, observer: Observer) -> None:
    cluster.running = False
    await observer.observe("team", "job")
    assert "events" in cluster.asked and "status" not in cluster.asked


async def test_jobs_that_ask_within_seconds_share_a_read() -> None:
    now, asked = 0.0, list[str]()

    async def read(name: str) -> str:
        asked.append(name)
        return name

    shared = SharedRead(read, lambda: now)
    assert await asyncio.gather(*(shared.of("team") for _ in range(8)), shared.of("other")) == ["team"] * 8 + ["other"]
    assert asked == ["team", "other"]
    now = FRESH_SECONDS + 1
    await shared.of("team")
    assert asked == ["team", "other", "team"]


async def test_a_read_that_failed_is_tried_again_by_the_next() -> None:
    answers = iter([ApiError(500, "InternalError", "no"), None])

    async def read(name: str) -> str:
        if error := next(answers):
            raise error
        return name

    shared = SharedRead(read, lambda: 0.0)
    with pytest.raises(ApiError):
        await shared.of("team")
    assert await shared.of("team") == "team"


@pytest.mark.parametrize(("age", "asked"), [(5.0, []), (15.0, ["events"]), (35.0, ["events", "n0"])])
async def test_of_a_pod_just_created_neither_node_nor_warnings_are_asked_for(
    cluster: Cluster, client: Client, age: float, asked: list[str]
) -> None:
    cluster.running, cluster.ready, cluster.created = False, "False", "2026-01-01T00:00:00Z"
    async with aiohttp.ClientSession() as agents:
        just_now = Observer(client, Agents(agents), Planner(), GangApis(versions={}), wall=lambda: 1767225600.0 + age)
        await just_now.observe("team", "job")
    assert sorted(cluster.asked[2:]) == asked


async def test_an_agent_that_falls_silent_keeps_its_last_word_with_its_time(cluster: Cluster, observer: Observer) -> None:
    first = await observer.observe("team", "job")
    cluster.agent = (500, b"")
    second = await observer.observe("team", "job")
    assert first is not None and second is not None
    assert second.observed.agents == first.observed.agents and second.observed.now >= first.observed.agents[0].time
    observer.forget(("team", "job"))
    third = await observer.observe("team", "job")
    assert third is not None and third.observed.agents == {}


async def test_a_look_hardly_waits_for_an_agent_that_was_silent_and_what_it_says_late_is_kept(cluster: Cluster, client: Client) -> None:
    answers, woken = asyncio.Event(), asyncio.Queue[tuple[str, str]]()
    cluster.server.held["/status"] = answers
    async with aiohttp.ClientSession() as http:
        observer = Observer(client, Agents(http, wake=woken.put_nowait, within=1.0, waited=0.01), Planner(), GangApis(versions={}))
        looks = [await observer.observe("team", "job") for _ in range(3)]
        assert [observation and observation.observed.agents for observation in looks] == [{}, {}, {}]
        assert cluster.asked.count("status") == 2, "an agent that owes an answer is not asked again"
        answers.set()
        assert await woken.get() == ("team", "job")
        last = await observer.observe("team", "job")
    assert last is not None and last.observed.agents[0].status.phase == "training" and woken.empty()


@pytest.mark.parametrize(
    "said",
    [(200, b"[" * 100_000), (200, b"no json"), (200, json.dumps(AGENT).encode() + b" " * LARGEST_ANSWER), (200, {"job": 3}), (302, b"")],
    ids=["nested", "text", "endless", "other", "elsewhere"],
)
async def test_whatever_an_agent_answers_the_look_succeeds(cluster: Cluster, observer: Observer, said: tuple[int, Any]) -> None:
    cluster.agent = said
    cluster.server.headers = {"Location": "/elsewhere"}
    observation = await observer.observe("team", "job")
    assert observation is not None and observation.observed.agents == {}


async def test_a_large_answer_that_comes_in_parts_is_read_whole(cluster: Cluster, observer: Observer) -> None:
    cluster.agent = (200, json.dumps(AGENT).encode() + b" " * (LARGEST_ANSWER // 2))
    observation = await observer.observe("team", "job")
    assert observation is not None and 0 in observation.observed.agents


async def test_a_job_that_is_not_there_is_none(observer: Observer, cluster: Cluster) -> None:
    assert await observer.observe("team", "other") is None


@pytest.mark.parametrize(
    ("gang", "queue", "served", "expected"),
    [
        ("auto", None, (), "operator"),
        ("auto", None, ("kueue.x-k8s.io",), "operator"),
        ("auto", "team-a", ("kueue.x-k8s.io", "scheduling.volcano.sh"), "kueue"),
        ("auto", "team-a", ("scheduling.volcano.sh",), "volcano"),
        ("auto", None, ("scheduling.x-k8s.io",), "coscheduling"),
        ("none", None, ("scheduling.x-k8s.io",), "none"),
    ],
)
def test_auto_takes_what_the_cluster_has(gang: str, queue: str | None, served: tuple[str, ...], expected: str) -> None:
    scheduling = {"gang": gang, **({"queue": queue} if queue else {})}
    job = job_of({**JOB, "spec": {**JOB["spec"], "scheduling": scheduling}})
    assert job.spec is not None
    assert gang_of(job.spec, GangApis(versions=dict.fromkeys(served, "v1"))) == expected


@pytest.mark.parametrize(
    ("gang", "served"), [("volcano", ()), ("kueue", ("scheduling.volcano.sh",)), ("volcano", ("scheduling.volcano.sh",))]
)
async def test_a_gang_that_nobody_here_admits_is_refused_in_words(
    cluster: Cluster, client: Client, monkeypatch: pytest.MonkeyPatch, gang: str, served: tuple[str, ...]
) -> None:
    monkeypatch.setitem(JOB["spec"], "scheduling", {"gang": gang})
    async with aiohttp.ClientSession() as agents:
        agents_of_pods = Agents(agents)
        observer = Observer(client, agents_of_pods, Planner(), GangApis(versions={name: f"{name}/v1" for name in served}))
        observation = await observer.observe("team", "job")
    assert observation is not None
    said = "does not serve" in str(observation.observed.job.refusal)
    assert said == (gang != "volcano" or not served)
