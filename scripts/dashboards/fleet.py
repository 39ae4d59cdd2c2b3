"""All jobs: how many in which phase, what waits, where the GPU-hours go, which job does worst."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row
from scripts.dashboards.panels import board, graph, number, query, rows, variable

IN = 'train_namespace=~"$namespace"'


def dashboard() -> Dashboard:
    """The dashboard of the namespaces that the reader chose."""
    made = board("llmtrain-fleet", "LLM training / Fleet", "All LLMTrainJobs: phases, waits, GPU-hours by state, goodput.")
    names = variable("namespace", "Namespace", "label_values(llmtrain_job_phase, train_namespace)")
    made = made.with_variable(names.multi(True).include_all(True).all_value(".*"))
    for part in (_state, _phases, _goodput):
        made = part(made)
    return made


def _state(made: Dashboard) -> Dashboard:
    of_each = f"max by (train_namespace, train_job) (llmtrain_job_gpus{{{IN}}})"
    gpus = f"sum({of_each} and on (train_namespace, train_job) train_job:running:max == 1)"
    for panel in (
        number("Running", "Jobs that train now.", "none", f"sum(train_job:running:max{{{IN}}})"),
        number("GPUs in training", "GPUs of the jobs that run.", "none", gpus),
        number(
            "Goodput, 1 h",
            "Share of all GPU-seconds of the last hour in steps that count, of all namespaces.",
            "percentunit",
            "fleet:goodput:ratio_rate1h",
        ),
        number("Restarts, 1 h", "Restarts of all jobs within the last hour.", "none", f"sum(train_job:restarts:increase1h{{{IN}}})"),
        number("Tokens per second", "Of all jobs.", "locale", f"sum(train_job:tokens_per_second:max{{{IN}}})"),
        number("Silent jobs", "Jobs that run, and of which no agent is scraped.", "none", _silent()),
        number("Queued", "Jobs that wait for their queue or their turn.", "none", _count("Queued")),
        number("Failed", "Jobs that failed within the last hour.", "none", _count("Failed")),
    ):
        made = made.with_panel(panel)
    return made


def _count(phase: str) -> str:
    return f'count(max by (train_namespace, train_job) (llmtrain_job_phase{{{IN},phase="{phase}"}})) or vector(0)'


def _silent() -> str:
    heard = "max by (train_namespace, train_job) (llmtrain_last_heartbeat_timestamp_seconds)"
    return f"count(train_job:running:max{{{IN}}} unless on (train_namespace, train_job) {heard}) or vector(0)"


def _phases(made: Dashboard) -> Dashboard:
    made = made.with_row(Row("Jobs"))
    phases = graph(
        "Jobs by phase",
        "All jobs of the operator, those that are over included.",
        "none",
        query("max by (phase) (llmtrain_jobs)", "{{phase}}"),
        stacked=True,
    )
    wait = "sum by (le) (rate(llmtrain_job_queue_wait_seconds_bucket[$__rate_interval]))"
    waits = graph(
        "Wait for the first attempt",
        "Time from the creation of a job to its first attempt.",
        "s",
        query(f"histogram_quantile(0.5, {wait})", "half of the jobs"),
        query(f"histogram_quantile(0.95, {wait})", "95 % of the jobs"),
    )
    held = graph(
        "GPUs held by state",
        "GPUs that jobs held, over the last hour, by what they did meanwhile.",
        "none",
        query("fleet:gpu_seconds:rate1h", "{{state}}"),
        stacked=True,
    )
    return made.with_panel(phases).with_panel(waits).with_panel(held)


def _goodput(made: Dashboard) -> Dashboard:
    made = made.with_row(Row("Which jobs"))
    worst = graph(
        "Lowest goodput",
        "The ten jobs that spent the smallest share of the last hour in steps that count.",
        "percentunit",
        query(f"bottomk(10, train_job:goodput:ratio_rate1h{{{IN}}})", "{{train_namespace}}/{{train_job}}"),
        width=12,
    )
    old = graph(
        "Oldest checkpoint",
        "The ten jobs whose newest checkpoint is oldest, of those that run.",
        "s",
        query(
            f"topk(10, time() - max by (train_namespace, train_job) (llmtrain_job_checkpoint_last_durable_timestamp_seconds{{{IN}}})"
            " and on (train_namespace, train_job) train_job:running:max == 1)",
            "{{train_namespace}}/{{train_job}}",
        ),
        width=12,
    )
    jobs = rows("Jobs", "Each job and its phase.", "none", f"max by (train_namespace, train_job, phase) (llmtrain_job_phase{{{IN}}})")
    return made.with_panel(worst).with_panel(old).with_panel(jobs)
