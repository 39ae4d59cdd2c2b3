"""The only kopf handlers: every event says "look again at this job" and nothing else. Registered by the operator's process.

kopf delivers every event one by one, forgets deletions that happened while a watch was away, and drops a handler's error; so nothing is
concluded from an event, and no state is kept here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import kopf

from llmtrain_operator.job.spec import GROUP, PLURAL, VERSION
from llmtrain_operator.kube.metrics import Metrics
from llmtrain_operator.kube.queue import WorkQueue
from llmtrain_operator.kube.session import Sessions

JOB_LABEL = "llmtrain.io/job"

JobKey = tuple[str, str]
"""Namespace and name of a job."""

CHILD_SECONDS = 0.2
"""How long after a pod's event its job is looked at: a gang's events come together and are one reconcile."""


def registry_of(queue: WorkQueue[JobKey], sessions: Sessions, metrics: Metrics) -> kopf.OperatorRegistry:
    """All handlers."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.AiohttpSession:
        return sessions.login()

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def job_changed(namespace: str | None, name: str | None, **_: Any) -> None:
        metrics.events_seen.labels(PLURAL).inc()
        queue.add((namespace or "", name or ""))

    @kopf.on.event("v1", "pods", registry=registry)
    async def pod_changed(namespace: str | None, labels: Any, **_: Any) -> None:
        metrics.events_seen.labels("pods").inc()
        if job := labels.get(JOB_LABEL):
            queue.add_after((namespace or "", job), CHILD_SECONDS)

    return registry


def settings_of(identity: str) -> kopf.OperatorSettings:
    """kopf as a watcher: it writes nothing, and ends the process where a watch cannot be kept."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.posting.reporting_instance = identity
    settings.watching.label_selectors["v1/pods"] = JOB_LABEL  # on the server; a handler's own labels= filters only here
    settings.watching.chunk_size = 500
    settings.watching.connect_timeout = settings.networking.connect_timeout = 10.0
    settings.networking.request_timeout = 60.0
    settings.networking.error_backoffs = (1, 2, 3, 5, 8, 13, 21, 34)  # 87 s of refusals before the process ends and is started again
    settings.scanning.disabled = True
    return settings


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
