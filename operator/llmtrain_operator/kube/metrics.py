"""Prometheus metrics of the operator."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

disable_created_metrics()  # type: ignore[no-untyped-call]  # otherwise each also exports a `_created` series

_FAST = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class OperatorMetrics:
    """The metrics in a separate registry, so that two operators in one process do not collide."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Histogram(
            "llmtrain_api_request_seconds",
            "Requests to the API server until their answer begins",
            ("verb", "resource", "code"),
            buckets=_FAST,
            registry=self.registry,
        )
        self.watch_opened = Gauge(
            "llmtrain_watch_opened_timestamp_seconds", "When a watch was opened last", ("resource",), registry=self.registry
        )
        self.events_seen = Counter(
            "llmtrain_watch_events_total", "Events that the watches delivered", ("resource",), registry=self.registry
        )
        self.reconciles = Histogram("llmtrain_reconcile_seconds", "Reconciles", ("result",), buckets=_FAST, registry=self.registry)
        self.actions = Counter(
            "llmtrain_actions_total", "Actions of reconciles that changed the cluster", ("action",), registry=self.registry
        )
        self.events_posted = Counter("llmtrain_events_total", "Kubernetes events", ("result",), registry=self.registry)
        self.reviews = Counter("llmtrain_webhook_reviews_total", "Answers of the webhook", ("result",), registry=self.registry)

    def watch_value(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Add a gauge whose value is computed at each scrape."""
        Gauge(name, text, registry=self.registry).set_function(value)

    def page(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)
