"""The only kopf handlers: every event says "look again at this job" and nothing else. Registered by the operator's process.

kopf delivers every event one by one, forgets deletions that happened while a watch was away, and drops a handler's error; so nothing is
concluded from an event but that there is something to look at. Of jobs and pods only the metadata is sent (see session.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import kopf

from llmtrain_operator.job.spec import GROUP, KIND, PLURAL, VERSION
from llmtrain_operator.kube.client import path_of
from llmtrain_operator.kube.freshness import WATCH_SECONDS
from llmtrain_operator.kube.metrics import Metrics
from llmtrain_operator.kube.queue import WorkQueue
from llmtrain_operator.kube.session import Sessions

JOB_LABEL = "llmtrain.io/job"

JobKey = tuple[str, str]
"""Namespace and name of a job."""

Mark = tuple[Any, Any, Any]
"""What of a job changes when somebody else changed it: not its status, which the operator writes itself."""


def registry_of(queue: WorkQueue[JobKey], sessions: Sessions, metrics: Metrics) -> kopf.OperatorRegistry:
    """All handlers."""
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
            queue.add(key)
        seen[key] = mark
        if type == "DELETED":
            del seen[key]

    @kopf.on.event("v1", "pods", registry=registry)
    async def pod_changed(namespace: str | None, labels: Any, **_: Any) -> None:
        metrics.events_seen.labels("pods").inc()
        if job := labels.get(JOB_LABEL):
            queue.add_soon((namespace or "", job))

    return registry


def settings_of(identity: str) -> kopf.OperatorSettings:
    """kopf as a watcher: it writes nothing, and ends the process where a watch cannot be kept."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.posting.reporting_instance = identity
    settings.watching.label_selectors["v1", "pods"] = JOB_LABEL  # on the server; a handler's own labels= filters only here
    settings.watching.chunk_size = 500
    settings.watching.server_timeout = WATCH_SECONDS
    settings.watching.connect_timeout = settings.networking.connect_timeout = 10.0
    settings.networking.request_timeout = 60.0
    settings.networking.error_backoffs = (1, 2, 3, 5, 8, 13, 21, 34)  # 87 s of refusals before the process ends and is started again
    settings.scanning.disabled = True
    settings.persistence.diffbase_storage, settings.persistence.progress_storage = NoDiff(), NoProgress()
    return settings


class NoDiff(kopf.DiffBaseStorage):
    """Handlers of events ask for no difference, and kopf copies every object three times over to have one: most of its CPU time."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None


class NoProgress(kopf.ProgressStorage):
    """Nor do they make progress."""

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
    """The paths of what is watched."""
    kinds = ((f"{GROUP}/{VERSION}", KIND), ("v1", "Pod"))
    return [path_of(version, kind, namespace) for namespace in namespaces or [None] for version, kind in kinds]  # type: ignore[list-item]


async def watch(
    queue: WorkQueue[JobKey], sessions: Sessions, metrics: Metrics, identity: str, namespaces: Sequence[str], stop: Any
) -> None:
    """Watch until `stop` (an asyncio.Event) is set or the process is told to end. Raises where a watch fails for good."""
    run: Callable[..., Any] = kopf.operator
    await run(
        registry=registry_of(queue, sessions, metrics),
        settings=settings_of(identity),
        clusterwide=not namespaces,
        namespaces=list(namespaces),
        standalone=True,
        stop_flag=stop,
    )
