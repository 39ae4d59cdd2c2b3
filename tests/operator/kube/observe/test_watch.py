"""kopf's watches as we set them up, against a server that ends, refuses and breaks them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import kopf
import pytest
from aiohttp import web

from llmtrain_operator.kube.api import session
from llmtrain_operator.kube.api.freshness import STALE_SECONDS, Freshness, WatchLostError
from llmtrain_operator.kube.api.session import Sessions
from llmtrain_operator.kube.metrics.operator import OperatorMetrics
from llmtrain_operator.kube.names import Key
from llmtrain_operator.kube.process.handlers import collections_of, watch
from llmtrain_operator.kube.process.kinds import KINDS
from llmtrain_operator.kube.process.queue import WorkQueue

PODS, JOBS = "/api/v1/pods", "/apis/llmtrain.io/v1alpha1/llmtrainjobs"
VERBS = ["get", "list", "watch", "patch"]
CORE = [("pods", "Pod", True), ("namespaces", "Namespace", False), ("events", "Event", True)]


def resources(*found: tuple[str, str, bool]) -> dict[str, Any]:
    entries = [{"name": name, "singularName": kind.lower(), "kind": kind, "namespaced": own, "verbs": VERBS} for name, kind, own in found]
    return {"resources": entries}


VERSION = {"groupVersion": "llmtrain.io/v1alpha1", "version": "v1alpha1"}
DISCOVERY: dict[str, Any] = {
    "/api": {"versions": ["v1"]},
    "/apis": {"groups": [{"name": "llmtrain.io", "versions": [VERSION], "preferredVersion": VERSION}]},
    "/api/v1": resources(*CORE),
    "/apis/llmtrain.io/v1alpha1": resources(("llmtrainjobs", "LLMTrainJob", True)),
}


def event(kind: str, name: str, version: int, **metadata: Any) -> bytes:
    told = {"name": name, "namespace": "team", "uid": f"u-{name}", "resourceVersion": str(version), "generation": 1, **metadata}
    return json.dumps({"type": kind, "object": {"kind": "PartialObjectMetadata", "metadata": told}}).encode() + b"\n"


@dataclass
class Broken:
    """Lists say that `names` exist at version 10. Each watch writes the next of `scripts`, then ends; after the last, watches stay open."""

    names: list[str] = field(default_factory=list)
    scripts: list[bytes] = field(default_factory=list)
    asked: list[tuple[str, dict[str, str], str]] = field(default_factory=list)
    url: str = ""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    pods_watched: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path in DISCOVERY:
            return web.json_response(DISCOVERY[request.path])
        self.asked.append((request.path, dict(request.query), request.headers["Accept"]))
        if "watch" not in request.query:
            items = [json.loads(event("", name, 9))["object"] for name in self.names] if request.path == JOBS else []
            return web.json_response({"kind": "List", "items": items, "metadata": {"resourceVersion": "10"}})
        answer = web.StreamResponse()
        await answer.prepare(request)
        if request.path == JOBS and self.scripts:
            await self.pods_watched.wait()  # a watch that is being opened while kopf ends holds it up: Freshness is for that
            await answer.write(self.scripts.pop(0))
            return answer
        bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": request.query["resourceVersion"]}}}
        await answer.write(json.dumps(bookmark).encode() + b"\n")  # headers go with the first bytes
        if request.path == PODS:
            self.pods_watched.set()
        await self.over.wait()
        return answer

    def of(self, path: str, *, watches: bool) -> list[dict[str, str]]:
        return [query for asked, query, _ in self.asked if asked == path and ("watch" in query) == watches]


@pytest.fixture
async def server() -> AsyncIterator[Broken]:
    made = Broken()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    made.over.set()
    await runner.cleanup()


@dataclass
class Watching:
    """The watches under way, and the keys they asked for."""

    queue: WorkQueue[Key]
    freshness: Freshness
    task: asyncio.Task[None]

    async def key(self) -> Key | None:
        async with asyncio.timeout(120):
            found = await self.queue.get()
        if found is not None:
            self.queue.done(found)
        return found

    async def name(self) -> str:
        """Name of the next job."""
        found = await self.key()
        assert found is not None and found == Key("LLMTrainJob", "team", found.name)
        return found.name


@asynccontextmanager
async def watching(server: Broken) -> AsyncIterator[Watching]:
    sessions, queue = Sessions(kopf.ConnectionInfo(server=server.url), OperatorMetrics()), WorkQueue[Key]()
    sessions.freshness.expect(collections_of([], KINDS))
    task = asyncio.create_task(watch(queue, sessions, sessions.metrics, "replica", [], KINDS))
    try:
        yield Watching(queue, sessions.freshness, task)
    finally:
        task.cancel()
        server.over.set()


@pytest.fixture(autouse=True)
def brake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let go, so that watches that end at once follow each other quickly."""
    monkeypatch.setattr(session, "BRAKE_SECONDS", 0.01)


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(120):
        while not holds():  # noqa: ASYNC110 - it is another program's doing
            await asyncio.sleep(0.01)


async def test_a_watch_that_the_server_closes_goes_on_where_it_was(server: Broken) -> None:
    server.names, server.scripts = ["old"], [event("ADDED", "first", 11), event("ADDED", "second", 12)]
    async with watching(server) as seen:
        assert [await seen.name() for _ in range(3)] == ["old", "first", "second"]
        await until(lambda: len(server.of(JOBS, watches=True)) >= 3)
    assert [query["resourceVersion"] for query in server.of(JOBS, watches=True)][:3] == ["10", "11", "12"]
    assert len(server.of(JOBS, watches=False)) == 1, "listed again without need"


async def test_a_watch_that_is_too_old_begins_with_a_list_and_every_job_is_looked_at_again(server: Broken) -> None:
    gone = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}}
    server.names, server.scripts = ["old"], [json.dumps(gone).encode() + b"\n"]
    async with watching(server) as seen:
        assert [await seen.name() for _ in range(2)] == ["old", "old"]
    assert len(server.of(JOBS, watches=False)) >= 2


async def test_a_watch_that_breaks_for_good_ends_the_process(server: Broken) -> None:
    broken = {"type": "ERROR", "object": {"kind": "Status", "code": 500, "reason": "InternalError", "message": "etcd is gone"}}
    server.scripts = [json.dumps(broken).encode() + b"\n"]
    async with watching(server) as seen:
        await asyncio.wait([seen.task], timeout=120)
        assert seen.task.done() and "etcd is gone" in str(seen.task.exception())


async def test_the_status_that_the_operator_wrote_itself_is_no_reason_to_look_again(server: Broken) -> None:
    written, changed, deleted = (event("MODIFIED", "job", 12), event("MODIFIED", "job", 13, generation=2), event("DELETED", "job", 14))
    server.scripts = [event("ADDED", "job", 11), written + event("ADDED", "marker", 12), changed, deleted]
    async with watching(server) as seen:
        assert [await seen.name() for _ in range(4)] == ["job", "marker", "job", "job"]


async def test_pods_are_watched_by_their_label_and_as_metadata_alone_and_for_a_time(server: Broken) -> None:
    async with watching(server) as seen:
        await until(lambda: seen.freshness.unready() is None and server.of(PODS, watches=True))
    assert {query.get("labelSelector") for path, query, _ in server.asked if path == PODS} == {"llmtrain.io/job"}
    assert all("as=PartialObjectMetadata;" in accept for _, query, accept in server.asked if "watch" in query)
    assert server.of(PODS, watches=True)[0]["timeoutSeconds"] == "120"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_watch_is_ready_when_heard_and_dead_when_not_heard_again() -> None:
    clock = Clock()
    freshness = Freshness(clock)
    assert freshness.unready() is None, "a replica that does not lead watches nothing"
    freshness.expect([PODS, JOBS])
    freshness.heard(PODS)
    assert JOBS in str(freshness.unready()) and freshness.stale() is None
    freshness.heard(JOBS)
    freshness.heard("/api/v1/nodes")
    assert freshness.unready() is None
    clock.now += STALE_SECONDS
    freshness.heard(JOBS)
    clock.now += 1
    assert PODS in str(freshness.stale()) and freshness.unready() == freshness.stale()


async def test_a_dead_watch_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    freshness = Freshness(clock)
    freshness.expect([PODS])
    clock.now += STALE_SECONDS + 1
    with pytest.raises(WatchLostError, match=PODS):
        await freshness.guard()
