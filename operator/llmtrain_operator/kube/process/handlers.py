"""The only kopf handlers: every event says "look again at this job" and nothing else.

kopf delivers every event one by one, forgets deletions that happened while a watch was away, and drops a handler's error; so nothing is
concluded from an event but that there is something to look at. Of jobs and pods only the metadata is sent (see session.py).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import kopf
import uvloop

from llmtrain_operator.api.job import GROUP, KIND, PLURAL, VERSION
from llmtrain_operator.kube.api.client import path_of
from llmtrain_operator.kube.api.freshness import WATCH_SECONDS
from llmtrain_operator.kube.api.session import Sessions
from llmtrain_operator.kube.metrics.operator import OperatorMetrics
from llmtrain_operator.kube.names import JobKey
from llmtrain_operator.kube.process.queue import WorkQueue
from llmtrain_operator.life.from_objects import LABEL_JOB

Mark = tuple[Any, Any, Any]
"""Metadata of a job that changes when somebody else changes it, unlike its status, which the operator writes itself."""


def registry_of(
    add: Callable[[JobKey], None], add_soon: Callable[[JobKey], None], sessions: Sessions, metrics: OperatorMetrics
) -> kopf.OperatorRegistry:
    """All handlers. They run in kopf's thread."""
    registry = kopf.OperatorRegistry()
    seen: dict[JobKey, Mark] = {}

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.AiohttpSession:
        return sessions.login()

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def job_changed(namespace: str | None, name: str | None, type: str | None, meta: Any, **_: Any) -> None:
        metrics.events_seen.labels(PLURAL).inc()
        key, mark = (namespace or "", name or ""), (meta.get("uid"), meta.get("generation"), meta.get("deletionTimestamp"))
        if type != "MODIFIED" or seen.get(key) != mark:  # a list (type None) always counts: it follows a gap
            add(key)
        seen[key] = mark
        if type == "DELETED":
            del seen[key]

    @kopf.on.event("v1", "pods", registry=registry)
    async def pod_changed(namespace: str | None, labels: Any, **_: Any) -> None:
        metrics.events_seen.labels("pods").inc()
        if job := labels.get(LABEL_JOB):
            add_soon((namespace or "", job))

    return registry


def settings_of(identity: str) -> kopf.OperatorSettings:
    """kopf as a watcher: it writes nothing, and ends the process if a watch cannot be kept open."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.posting.reporting_instance = identity
    settings.watching.label_selectors["v1", "pods"] = LABEL_JOB  # on the server; a handler's own labels= filters only here
    settings.watching.chunk_size = 50  # kopf lists full objects, each up to the API server's limit
    settings.watching.server_timeout = WATCH_SECONDS
    settings.watching.connect_timeout = settings.networking.connect_timeout = 10.0
    settings.networking.request_timeout = 60.0
    settings.networking.error_backoffs = (1, 2, 3, 5, 8, 13, 21, 34)  # 87 s of refusals before the process ends and is started again
    settings.scanning.disabled = True
    settings.persistence.diffbase_storage, settings.persistence.progress_storage = NoDiff(), NoProgress()
    return settings


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


def collections_of(namespaces: Sequence[str]) -> list[str]:
    """The paths of the watched collections."""
    kinds = ((f"{GROUP}/{VERSION}", KIND), ("v1", "Pod"))
    return [path_of(version, kind, namespace) for namespace in namespaces or [None] for version, kind in kinds]  # type: ignore[list-item]


async def watch(queue: WorkQueue[JobKey], sessions: Sessions, metrics: OperatorMetrics, identity: str, namespaces: Sequence[str]) -> None:
    """Watch until cancelled. Raises the error that ended the watches.

    kopf has a thread and a loop of its own. In ours it would take the signals of the process and, when it ends, every task that began
    after it; and a watch that is read while others compute is not closed for reading too slowly.
    """
    loop, ended, stop = asyncio.get_running_loop(), asyncio.get_running_loop().create_future(), threading.Event()
    registry = registry_of(lambda key: _soon(loop, queue.add, key), lambda key: _soon(loop, queue.add_soon, key), sessions, metrics)

    def told(error: BaseException | None) -> None:
        if not ended.done():
            ended.set_exception(error) if error else ended.set_result(None)

    async def operate() -> None:
        error: BaseException | None = None
        try:
            asyncio.get_running_loop().set_task_factory(partial(_task, lambda raised: _soon(loop, told, raised)))
            operator: Callable[..., Any] = kopf.operator
            scope = {"clusterwide": not namespaces, "namespaces": list(namespaces)}
            await operator(registry=registry, settings=settings_of(identity), identity=identity, standalone=True, stop_flag=stop, **scope)
        except BaseException as raised:
            error = raised
        _soon(loop, told, error)

    threading.Thread(target=lambda: uvloop.run(operate()), name="kopf", daemon=True).start()
    try:
        await ended
    finally:
        stop.set()


def _soon(loop: asyncio.AbstractEventLoop, call: Callable[[Any], None], argument: Any) -> None:
    """From another thread; nothing where the loop is closed, since then nobody asks any more."""
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
