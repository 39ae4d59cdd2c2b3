"""The operator's metrics of its own work. Read over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from llmtrain_operator.kube.metrics.catalog import FLEET, PROCESS
from llmtrain_operator.kube.metrics.jobs import JobMetrics
from llmtrain_operator.version import version
from llmtrain_trainer.config.tables.metric import PREFIX

disable_created_metrics()  # type: ignore[no-untyped-call]  # otherwise each also exports a `_created` series

_TABLE = {metric.name: metric for metric in (*PROCESS, *FLEET)}


class OperatorMetrics:
    """The metrics in a separate registry, so that two operators in one process do not collide."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._one(Histogram, "api_request_seconds")
        self.watch_opened = self._one(Gauge, "watch_opened_timestamp_seconds")
        self.events_seen = self._one(Counter, "watch_events_total")
        self.reconciles = self._one(Histogram, "reconcile_seconds")
        self.actions = self._one(Counter, "actions_total")
        self.events_posted = self._one(Counter, "events_total")
        self.reviews = self._one(Counter, "webhook_reviews_total")
        self._one(Gauge, "build_info").labels(version() or "image").set(1)
        self.jobs = JobMetrics(self._one(Histogram, "job_queue_wait_seconds"))
        self.registry.register(self.jobs)

    def watch_value(self, name: str, value: Callable[[], float]) -> None:
        """Add a gauge of the table whose value is computed at each scrape."""
        self._one(Gauge, name).set_function(value)

    def page(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def _one(self, kind: type[Any], name: str) -> Any:
        """A collector of the table. Its series are there from the start, at 0, where their labels are known."""
        metric = _TABLE[name]
        more = {"buckets": metric.buckets} if kind is Histogram else {}
        made = kind(PREFIX + name, metric.text, tuple(metric.labels), registry=self.registry, **more)
        for values in product(*metric.labels.values()) if metric.labels else ():
            made.labels(*values)
        return made
