"""The operator: whether one leads, how fast it works, what it asks of the API server, what its webhook answers."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row
from grafana_foundation_sdk.builders.prometheus import Dataquery
from scripts.dashboards.panels import board, graph, mark, number, query, variable

IN = 'namespace=~"$namespace"'
RATE = "[$__rate_interval]"


def dashboard() -> Dashboard:
    """The dashboard of the operator's replicas."""
    made = board("llmtrain-operator", "LLM training / Operator", "The operator: leader, queue, reconciles, watches, webhook, requests.")
    names = variable("namespace", "Namespace of the operator", "label_values(llmtrain_leader, namespace)")
    made = made.with_variable(names.multi(True).include_all(True).all_value(".*"))
    made = made.annotation(mark("Changes of the leader", f"changes(llmtrain_leader{{{IN}}}[2m]) > 0", "orange"))
    for part in (_state, _work, _requests):
        made = part(made)
    return made


def _state(made: Dashboard) -> Dashboard:
    ends = f"min(llmtrain_webhook_certificate_expiry_timestamp_seconds{{{IN}}}) - time()"
    for panel in (
        number("Leaders", "Replicas that lead: 1, and 0 for some seconds while it changes.", "none", f"sum(llmtrain_leader{{{IN}}})"),
        number("Replicas", "Replicas that are scraped.", "none", f"count(llmtrain_build_info{{{IN}}})"),
        number("Jobs", "Jobs that the leader knows.", "none", "sum(max by (phase) (llmtrain_jobs))"),
        number("Waiting", "Jobs that wait for a worker.", "none", f"max(llmtrain_queue_depth{{{IN}}})"),
        number("Longest wait", "How long the first of them has waited.", "s", f"max(llmtrain_queue_age_seconds{{{IN}}})"),
        number(
            "Age of the watches",
            "Time since the last list or watch, of the leader.",
            "s",
            f"max(llmtrain_watch_age_seconds{{{IN}}} and on (instance) llmtrain_leader == 1)",
        ),
        number("Certificate", "Time until the webhook's certificate ends.", "s", ends),
        number("At work", "Jobs that a worker is reconciling.", "none", f"sum(llmtrain_queue_active{{{IN}}})"),
    ):
        made = made.with_panel(panel)
    return made


def _work(made: Dashboard) -> Dashboard:
    made = made.with_row(Row("Work"))
    done = graph(
        "Reconciles",
        "Reconciles per second by result.",
        "ops",
        query(f"sum by (result) (rate(llmtrain_reconcile_seconds_count{{{IN}}}{RATE}))", "{{result}}"),
    )
    times = graph(
        "Time of a reconcile", "Half of the reconciles, and 99 % of them, take less.", "s", *_quantiles("llmtrain_reconcile_seconds")
    )
    actions = graph(
        "Actions",
        "Changes of the cluster within the interval.",
        "none",
        query(f"sum by (action) (increase(llmtrain_actions_total{{{IN}}}{RATE}))", "{{action}}"),
    )
    return made.with_panel(done).with_panel(times).with_panel(actions)


def _requests(made: Dashboard) -> Dashboard:
    made = made.with_row(Row("Requests"))
    for panel in (
        graph(
            "Requests to the API server",
            "Requests per second by HTTP status; none: no answer.",
            "reqps",
            query(f"sum by (code) (rate(llmtrain_api_request_seconds_count{{{IN}}}{RATE}))", "{{code}}"),
        ),
        graph(
            "Time of a request",
            "Until the answer begins: half of the requests, and 99 % of them, take less.",
            "s",
            *_quantiles("llmtrain_api_request_seconds"),
        ),
        graph(
            "Events of the watches",
            "Events per second by kind.",
            "ops",
            query(f"sum by (resource) (rate(llmtrain_watch_events_total{{{IN}}}{RATE}))", "{{resource}}"),
        ),
        graph(
            "Reviews of the webhook",
            "Answers within the interval. failed: it could not judge.",
            "none",
            query(f"sum by (result) (increase(llmtrain_webhook_reviews_total{{{IN}}}{RATE}))", "{{result}}"),
        ),
        graph(
            "Kubernetes events",
            "Events within the interval. held: the same was posted recently, or the job had too many.",
            "none",
            query(f"sum by (result) (increase(llmtrain_events_total{{{IN}}}{RATE}))", "{{result}}"),
        ),
        graph("Queue", "Jobs that wait for a worker.", "none", query(f"max by (pod) (llmtrain_queue_depth{{{IN}}})", "{{pod}}")),
    ):
        made = made.with_panel(panel)
    return made


def _quantiles(name: str) -> list[Dataquery]:
    buckets = f"sum by (le) (rate({name}_bucket{{{IN}}}{RATE}))"
    return [query(f"histogram_quantile({share}, {buckets})", said) for share, said in ((0.5, "half"), (0.99, "99 %"))]
