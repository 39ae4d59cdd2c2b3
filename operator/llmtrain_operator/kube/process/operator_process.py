"""One replica of the operator, from its probes to the end of its watches."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from llmtrain_operator.kube.api.client import Client
from llmtrain_operator.kube.api.freshness import Freshness
from llmtrain_operator.kube.api.session import Sessions, credentials
from llmtrain_operator.kube.judging.shapes import EVERYWHERE, Shapes
from llmtrain_operator.kube.kind import Controller, Leading
from llmtrain_operator.kube.metrics.operator import OperatorMetrics
from llmtrain_operator.kube.names import Key, ObjectName
from llmtrain_operator.kube.process.aside import Aside, Pulse
from llmtrain_operator.kube.process.handlers import collections_of, watch
from llmtrain_operator.kube.process.kinds import KINDS
from llmtrain_operator.kube.process.lease import ApiLease, Election
from llmtrain_operator.kube.process.queue import WorkQueue
from llmtrain_operator.kube.process.server import application, serve
from llmtrain_operator.kube.process.workers import work
from llmtrain_operator.kube.render_settings import RenderSettings
from llmtrain_operator.kube.webhook import server as webhook
from llmtrain_operator.kube.webhook.expiry import ends
from llmtrain_operator.manifest.parse import manifest_schema

log = logging.getLogger(__name__)

WORKERS = 32
STUCK_SECONDS = 600.0
"""Seconds that an object may wait for a worker; beyond that no worker is alive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorOptions:
    """Options of the command line."""

    namespaces: tuple[str, ...]
    """Namespaces to watch; empty: all."""

    settings: RenderSettings
    lease_name: str
    identity: str
    host: str
    port: int
    sources: tuple[str, ...] = EVERYWHERE
    """Prefixes below which the operator reads the config.json of models."""

    webhook_certificates: Path | None = None
    """Directory with tls.crt and tls.key; None: no webhook."""

    webhook_port: int = 9443


async def run(options: OperatorOptions, stop: asyncio.Event) -> None:
    """Serve, lead, watch, until `stop` is set. Raises LeaseLostError, kopf.LoginError, and whatever ended the watches."""
    metrics, queue, shapes, pulse = OperatorMetrics(), WorkQueue[Key](), Shapes(below=options.sources), Pulse()
    info, token = credentials()
    sessions = Sessions(info, metrics, token)

    freshness = sessions.freshness
    manifest_schema()  # half a second that the first job would wait for

    def alive() -> str | None:
        age = queue.age
        return pulse.stopped() or (f"An object has waited {age:.0f} s for a worker." if age > STUCK_SECONDS else freshness.stale())

    def ready() -> str | None:
        return alive() or freshness.unready()

    async with AsyncExitStack() as stack:  # closed in reverse order: the lease is released before the pages close
        http = await stack.enter_async_context(sessions.open())
        aside = stack.enter_context(Aside())
        apart = await aside.enter(stack, lambda: sessions.open(connections=1))  # renewals must not wait for jobs
        client, lease = (
            Client(http, info.server),
            ApiLease(Client(apart, info.server), options.settings.operator_namespace, options.lease_name),
        )
        election = Election(lease, options.identity)
        _describe(metrics, queue, election, freshness)
        stack.callback(shapes.close)
        await _serve_webhook(options, shapes, metrics, stack)  # before the probes: a replica that is ready takes reviews
        runner, port = await aside.run(serve(application(metrics, alive, ready), options.host, options.port))
        stack.push_async_callback(lambda: aside.run(runner.cleanup()))
        stack.push_async_callback(lambda: aside.run(election.release()))
        beat = asyncio.create_task(pulse.beat())
        stack.callback(beat.cancel)
        log.info("%s serves on port %d and waits for the lease %s", options.identity, port, options.lease_name)
        if await first_of(aside.run(election.acquire()), stop.wait()) == 0:
            log.info("%s leads", options.identity)
            await _lead(options, client, sessions, metrics, queue, election, stop, shapes, aside)


async def _serve_webhook(options: OperatorOptions, shapes: Shapes, metrics: OperatorMetrics, stack: AsyncExitStack) -> None:
    """Where there are certificates for it. Raises OSError where they or the port cannot be used."""
    if options.webhook_certificates is not None:
        file = options.webhook_certificates / "tls.crt"
        metrics.watch_value("webhook_certificate_expiry_timestamp_seconds", lambda: ends(file))
        app = webhook.application(shapes.now, metrics)
        port = await stack.enter_async_context(webhook.serving(options.webhook_certificates, options.host, options.webhook_port, app))
        log.info("%s takes reviews on port %d", options.identity, port)


async def _lead(
    options: OperatorOptions,
    client: Client,
    sessions: Sessions,
    metrics: OperatorMetrics,
    queue: WorkQueue[Key],
    election: Election,
    stop: asyncio.Event,
    shapes: Shapes,
    aside: Aside,
) -> None:
    """Watch and reconcile until told to stop."""
    async with AsyncExitStack() as stack:
        controllers: dict[str, Controller] = {}
        for kind in KINDS:
            name = kind.resource.kind
            leading = Leading(
                client=client,
                metrics=metrics,
                settings=options.settings,
                identity=options.identity,
                shapes=shapes,
                look=partial(_look, queue, name),
            )
            controllers[name] = await stack.enter_async_context(kind.begin(leading))
        lease = asyncio.create_task(aside.run(election.hold()))
        workers = [asyncio.create_task(work(queue, controllers, metrics, lambda: election.leads)) for _ in range(WORKERS)]
        try:
            for controller in controllers.values():
                await controller.take_over(options.namespaces)
            sessions.freshness.expect(collections_of(options.namespaces, KINDS))
            watches = watch(queue, sessions, metrics, options.identity, options.namespaces, KINDS)
            await first_of(stop.wait(), watches, sessions.freshness.guard(), lease, *workers)
        finally:
            queue.close()
            await ended(lease, *workers)


def _look(queue: WorkQueue[Key], kind: str, key: ObjectName) -> None:
    queue.add(Key(kind, *key))


def _describe(metrics: OperatorMetrics, queue: WorkQueue[Key], election: Election, freshness: Freshness) -> None:
    """The gauges that are read when scraped."""
    metrics.watch_value("leader", lambda: float(election.leads))
    metrics.watch_value("queue_depth", lambda: float(len(queue)))
    metrics.watch_value("queue_active", lambda: float(queue.active))
    metrics.watch_value("queue_age_seconds", lambda: queue.age)
    metrics.watch_value("watch_age_seconds", freshness.seconds)


async def first_of(*calls: Coroutine[Any, Any, Any] | asyncio.Task[Any]) -> int:
    """Wait for the first to end, end the others, raise what it raised; returns which it was."""
    tasks = [call if isinstance(call, asyncio.Task) else asyncio.create_task(call) for call in calls]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await ended(*(task for task in tasks if not task.done()))
    first = next(index for index, task in enumerate(tasks) if task in done)
    tasks[first].result()
    return first


async def ended(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait for them."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
