"""The only kopf handlers: every event says "look again at this object" and nothing else.

kopf delivers events one by one, misses deletions while a watch is down, and drops errors of handlers. So an event only means that an
object must be reconciled. Only the metadata of objects is sent (see session.py).
"""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import kopf
import uvloop

from llmtrain_operator.kube.api.client import path_of
from llmtrain_operator.kube.api.freshness import WATCH_SECONDS
from llmtrain_operator.kube.api.session import Sessions
from llmtrain_operator.kube.kind import Follow, Kind
from llmtrain_operator.kube.metrics.operator import OperatorMetrics
from llmtrain_operator.kube.names import Key
from llmtrain_operator.kube.process.queue import WorkQueue
from llmtrain_operator.kube.resources import Resource

Mark = tuple[Any, Any, Any]
"""Metadata of an object that changes when somebody else changes it, unlike its status, which the operator writes itself."""


class KnownObjects:
    """The last known metadata of each object of llmtrain's kinds."""

    def __init__(self) -> None:
        self._seen = dict[Key, Mark]()

    def is_news(self, key: Key, type: str | None, meta: Any) -> bool:
        """Whether the event says more than that a status was written. A list (`type` None) always does: it follows a gap."""
        mark = (meta.get("uid"), meta.get("generation"), meta.get("deletionTimestamp"))
        news = type != "MODIFIED" or self._seen.get(key) != mark
        self._seen[key] = mark
        if type == "DELETED":
            del self._seen[key]
        return news


def registry_of(
    add: Callable[[Key], None], add_soon: Callable[[Key], None], sessions: Sessions, metrics: OperatorMetrics, kinds: Sequence[Kind]
) -> kopf.OperatorRegistry:
    """All handlers. They run in kopf's thread."""
    registry, marks = kopf.OperatorRegistry(), KnownObjects()

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.AiohttpSession:
        return sessions.login()

    for kind in kinds:
        _handle(registry, kind.resource, add, marks, metrics)
        for follow in kind.follows:
            _handle_follow(registry, kind.resource, follow, add_soon, metrics)
    return registry


def _handle(
    registry: kopf.OperatorRegistry, of: Resource, add: Callable[[Key], None], marks: KnownObjects, metrics: OperatorMetrics
) -> None:
    """Objects of one of our kinds."""

    @kopf.on.event(of.group, of.version, of.plural, registry=registry, id=of.kind)
    async def changed(namespace: str | None, name: str | None, type: str | None, meta: Any, **_: Any) -> None:
        metrics.events_seen.labels(of.plural).inc()
        key = Key(of.kind, namespace or "", name or "")
        if marks.is_news(key, type, meta):
            add(key)


def _handle_follow(
    registry: kopf.OperatorRegistry, of: Resource, follow: Follow, add_soon: Callable[[Key], None], metrics: OperatorMetrics
) -> None:
    """Objects of others that carry the label of one of our kinds."""

    @kopf.on.event(follow.version, follow.plural, registry=registry, id=f"{of.kind}-{follow.plural}")
    async def changed(namespace: str | None, labels: Any, **_: Any) -> None:
        metrics.events_seen.labels(follow.plural).inc()
        if name := labels.get(follow.label):
            add_soon(Key(of.kind, (namespace or "") if of.namespaced else "", name))


def settings_of(identity: str, kinds: Sequence[Kind]) -> kopf.OperatorSettings:
    """kopf as a watcher: it writes nothing, and ends the process if a watch cannot be kept open."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.posting.reporting_instance = identity
    for (version, plural), label in _selectors(kinds).items():
        settings.watching.label_selectors[version, plural] = label  # on the server; a handler's own labels= filters only here
    settings.watching.chunk_size = 50  # kopf lists full objects, each up to the API server's limit
    settings.watching.server_timeout = WATCH_SECONDS
    settings.watching.connect_timeout = settings.networking.connect_timeout = 10.0
    settings.networking.request_timeout = 60.0
    settings.networking.error_backoffs = (1, 2, 3, 5, 8, 13, 21, 34)  # 87 s of refusals before the process ends and is started again
    settings.scanning.disabled = True
    settings.persistence.diffbase_storage, settings.persistence.progress_storage = NoDiff(), NoProgress()
    return settings


def _selectors(kinds: Sequence[Kind]) -> dict[tuple[str, str], str]:
    """The label by which each collection is watched; none where several kinds follow it by different ones."""
    labels = defaultdict[tuple[str, str], set[str]](set)
    for follow in (follow for kind in kinds for follow in kind.follows):
        labels[follow.version, follow.plural].add(follow.label)
    return {collection: next(iter(found)) for collection, found in labels.items() if len(found) == 1}


class NoDiff(kopf.DiffBaseStorage):
    """No diff: event handlers do not need one, and kopf copies every object three times to compute it, most of its CPU time."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None


class NoProgress(kopf.ProgressStorage):
    """Event handlers are stateless: nothing to persist."""

    def clear(self, *, essence: Any) -> Any:
        return essence

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None

    def purge(self, **_: Any) -> None:
        return None

    def touch(self, **_: Any) -> None:
        return None


def collections_of(namespaces: Sequence[str], kinds: Sequence[Kind]) -> list[str]:
    """The paths of the watched collections."""
    within: Sequence[str | None] = namespaces or [None]
    found = [
        path_of(kind.resource.api_version, kind.resource.kind, each)
        for kind in kinds
        for each in (within if kind.resource.namespaced else [None])
    ]
    follows = [path_of(follow.version, follow.kind, each) for each in within for kind in kinds for follow in kind.follows]
    return list(dict.fromkeys((*found, *follows)))


async def watch(
    queue: WorkQueue[Key], sessions: Sessions, metrics: OperatorMetrics, identity: str, namespaces: Sequence[str], kinds: Sequence[Kind]
) -> None:
    """Watch until cancelled. Raises the error that ended the watches.

    kopf has a thread and a loop of its own. In ours it would take the signals of the process and, when it ends, every task that began
    after it; and a watch that is read while others compute is not closed for reading too slowly.
    """
    loop, ended, stop = asyncio.get_running_loop(), asyncio.get_running_loop().create_future(), threading.Event()
    registry = registry_of(lambda key: _soon(loop, queue.add, key), lambda key: _soon(loop, queue.add_soon, key), sessions, metrics, kinds)

    def told(error: BaseException | None) -> None:
        if not ended.done():
            ended.set_exception(error) if error else ended.set_result(None)

    async def operate() -> None:
        error: BaseException | None = None
        try:
            asyncio.get_running_loop().set_task_factory(partial(_task, lambda raised: _soon(loop, told, raised)))
            operator: Callable[..., Any] = kopf.operator
            scope = {"clusterwide": not namespaces, "namespaces": list(namespaces)}
            await operator(
                registry=registry, settings=settings_of(identity, kinds), identity=identity, standalone=True, stop_flag=stop, **scope
            )
        except BaseException as raised:
            error = raised
        _soon(loop, told, error)

    threading.Thread(target=lambda: uvloop.run(operate()), name="kopf", daemon=True).start()
    try:
        await ended
    finally:
        stop.set()


def _soon(loop: asyncio.AbstractEventLoop, call: Callable[[Any], None], argument: Any) -> None:
    """Call it in the loop from another thread; does nothing if the loop is closed."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(call, argument)


def _task(failed: Callable[[BaseException], None], loop: asyncio.AbstractEventLoop, made: Any, **named: Any) -> asyncio.Task[Any]:
    """A task of kopf's. Where it is a watcher that fails, `failed` is told at once: before kopf ends, it ends the other watches, and for
    one that is just being opened it waits for ever."""

    def done(task: asyncio.Task[Any]) -> None:
        if task.get_name().startswith("watcher for ") and not task.cancelled() and (error := task.exception()) is not None:
            failed(error)

    task = asyncio.Task(made, loop=loop, **named)
    task.add_done_callback(done)
    return task
