"""What the operator tells of each job: from its status alone, so that dead agents change nothing."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from llmtrain_operator.api.job import Status
from llmtrain_operator.kube.metrics.catalog import JOBS
from llmtrain_operator.kube.metrics.jobs import KEPT, JobMetrics
from llmtrain_operator.kube.metrics.operator import OperatorMetrics
from llmtrain_operator.life.times import text_of
from llmtrain_trainer.config.tables.metric import PREFIX
from llmtrain_trainer.config.tables.time_accounts import BOOKED_BY_THE_OPERATOR

KEY = ("team", "demo")
T0 = 1_800_000_000.0
FULL: dict[str, Any] = {
    "phase": "Running",
    "attempt": 2,
    "startTime": text_of(T0),
    "pods": {"wanted": 2, "created": 2, "scheduled": 1, "running": 1},
    "plan": {"engine": "native", "layout": "dp2 tp4", "gpus": 16, "model": "hf://meta-llama/Llama-3.1-8B"},
    "progress": {"step": 40, "targetSteps": 100, "loss": 2.5, "tokensPerSecond": 512.0, "lastStepTime": text_of(T0 + 9)},
    "checkpoint": {"name": "step-00000030-a1-r1", "step": 30, "uri": "s3://c/x", "time": text_of(T0 + 5)},
    "restarts": {"total": 3, "inPlace": 2, "byReason": {"NodeLost": 1, "InPlace": 2}},
    "failure": {"reason": "NodeLost"},
    "goodput": {
        "ratio": 0.9,
        "byCause": {"productive": 90.0, "queued": 10.0},
        "suspendedSeconds": 5.0,
        "gpuHoursByCause": {"productive": 0.5},
    },
    "notices": ["A row was dropped."],
}


def status(**changes: Any) -> Status:
    return Status.model_validate(FULL | changes)


def told(metrics: OperatorMetrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(metrics.page().decode())
    return {(sample.name, frozenset(sample.labels.items())): sample.value for family in families for sample in family.samples}


def of(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return PREFIX + name, frozenset({"train_namespace": "team", "train_job": "demo", **labels}.items())


def seen(now: Status, before: Status | None = None) -> OperatorMetrics:
    metrics = OperatorMetrics()
    metrics.jobs.note(KEY, T0 - 30, before or now, now)
    return metrics


def test_everything_that_the_table_says_of_a_job_is_told_of_a_full_status() -> None:
    found = told(seen(status()))
    assert {PREFIX + metric.name for metric in JOBS} <= {name for name, _ in found}
    assert found[of("job_phase", phase="Running")] == 1
    assert found[of("job_pods", state="scheduled")] == 1 and found[of("job_pods", state="wanted")] == 2
    assert found[of("job_restarts_total", reason="NodeLost")] == 1 and found[of("job_restarts_total", reason="InPlace")] == 2
    assert found[of("job_time_seconds_total", state="productive")] == 90 and found[of("job_time_seconds_total", state="suspended")] == 5
    assert found[of("job_gpu_seconds_total", state="productive")] == 1800
    assert found[of("job_checkpoint_last_durable_timestamp_seconds")] == T0 + 5
    assert found[of("job_last_step_timestamp_seconds")] == T0 + 9
    assert found[of("job_info", engine="native", layout="dp2 tp4", model="hf://meta-llama/Llama-3.1-8B")] == 1


def test_every_state_of_time_is_there_from_the_start_and_no_other() -> None:
    found = told(seen(status(goodput={"byCause": {}})))
    states = [dict(labels)["state"] for name, labels in found if name == PREFIX + "job_time_seconds_total"]
    assert sorted(states) == sorted(BOOKED_BY_THE_OPERATOR)


def test_a_job_without_gpus_holds_none() -> None:
    found = told(seen(status(plan={"engine": "native", "gpus": 0})))
    assert not any(name == PREFIX + "job_gpu_seconds_total" for name, _ in found)


def test_a_refused_job_that_has_nothing_yet_shows_its_phase() -> None:
    found = told(seen(Status(phase="Pending")))
    assert found[of("job_phase", phase="Pending")] == 1


def test_jobs_are_counted_by_phase_and_a_phase_without_jobs_is_0() -> None:
    metrics = seen(status())
    metrics.jobs.note(("team", "other"), T0, Status(), Status(phase="Queued"))
    found = told(metrics)
    counts = {dict(labels)["phase"]: value for (name, labels), value in found.items() if name == PREFIX + "jobs"}
    assert counts["Running"] == 1 and counts["Queued"] == 1 and counts["Failed"] == 0 and len(counts) == 9


def test_a_job_that_is_gone_is_told_no_more() -> None:
    metrics = seen(status())
    metrics.jobs.forget(KEY)
    assert not any(("train_job", "demo") in labels for _, labels in told(metrics))


def test_a_job_that_is_over_keeps_its_series_for_an_hour() -> None:
    now, waits = [T0], OperatorMetrics()
    jobs = JobMetrics(waits.reconciles.labels("done"), wall=lambda: now[0])
    jobs.note(KEY, T0 - 30, status(), status(phase="Complete", completionTime=text_of(T0)))

    def series() -> int:
        return sum(len(family.samples) for family in jobs.collect() if family.name != PREFIX + "jobs")

    now[0] = T0 + KEPT - 1
    assert series() > 20
    now[0] = T0 + KEPT
    assert series() == 0
    assert sum(sample.value for family in jobs.collect() for sample in family.samples) == 1  # it is still counted


def test_the_wait_for_the_first_attempt_is_counted_once() -> None:
    metrics = seen(status(), before=Status(phase="Queued"))
    metrics.jobs.note(KEY, T0 - 30, Status(phase="Queued"), status())  # not written yet, and projected again
    found = told(metrics)
    assert found[PREFIX + "job_queue_wait_seconds_count", frozenset()] == 1
    assert found[PREFIX + "job_queue_wait_seconds_sum", frozenset()] == 30
