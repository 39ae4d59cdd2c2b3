"""What Prometheus reads."""

from __future__ import annotations

import math
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from llmtrain_trainer.agent.metrics import Metrics
from llmtrain_trainer.config import CheckpointStatus, Progress


def row(step: int, **changes: Any) -> Progress:
    facts = {
        "time": 1000.0 + step,
        "step": step,
        "target_steps": 100,
        "consumed_samples": step * 4,
        "consumed_tokens": step * 256,
        "loss": 3.0,
        "grad_norm": 1.0,
        "learning_rate": 1e-3,
        "step_seconds": 0.5,
        "tokens_per_second": 512.0,
    }
    return Progress(**facts | changes)


def value(metrics: Metrics, name: str, **labels: str) -> float:
    wanted = {"train_job": "tiny", **labels}
    for family in text_string_to_metric_families(metrics.text().decode()):
        for sample in family.samples:
            if sample.name == name and sample.labels == wanted:
                return sample.value
    raise KeyError(name)


def test_counters_exist_before_anything_happened() -> None:
    metrics = Metrics("tiny", 2)
    assert value(metrics, "llmtrain_restarts_total", reason="hang") == 0
    assert value(metrics, "llmtrain_tokens_processed_total") == 0


def test_a_row_shows_in_gauges_and_histogram() -> None:
    metrics = Metrics("tiny", 2)
    metrics.row(row(1, validation_loss=2.5, mfu=0.4))
    assert value(metrics, "llmtrain_loss") == 3.0
    assert value(metrics, "llmtrain_validation_loss") == 2.5
    assert value(metrics, "llmtrain_model_flops_utilization_ratio") == 0.4
    assert value(metrics, "llmtrain_tokens_per_second_per_gpu") == 256.0
    assert value(metrics, "llmtrain_eta_seconds") == 49.5
    assert value(metrics, "llmtrain_step_duration_seconds_count") == 1


def test_steps_trained_again_count_as_recompute_and_no_counter_goes_back() -> None:
    metrics = Metrics("tiny", 2)
    for step in (1, 2, 3, 2, 3, 4):
        metrics.row(row(step))
    assert value(metrics, "llmtrain_time_seconds_total", state="productive") == 2.0
    assert value(metrics, "llmtrain_time_seconds_total", state="recompute") == 1.0
    assert value(metrics, "llmtrain_tokens_processed_total") == 6 * 256


def test_rows_that_are_logged_now_and_then_count_all_their_tokens() -> None:
    metrics = Metrics("tiny", 2)
    metrics.row(row(10))
    metrics.row(row(20))
    assert value(metrics, "llmtrain_samples_processed_total") == 4 + 40


def test_a_loss_that_is_no_number_is_counted() -> None:
    metrics = Metrics("tiny", 2)
    metrics.row(row(1, loss=math.nan))
    assert value(metrics, "llmtrain_nonfinite_loss_total") == 1


def test_a_commit_shows_the_last_durable_step() -> None:
    metrics = Metrics("tiny", 2)
    metrics.committed(CheckpointStatus(name="step-00000007-a0-r1", step=7, uri="file:///x", bytes=10, committed_at=5.0), 2.0)
    metrics.restart("killed")
    assert value(metrics, "llmtrain_checkpoint_last_durable_step") == 7
    assert value(metrics, "llmtrain_checkpoints_total", result="committed") == 1
    assert value(metrics, "llmtrain_restarts_total", reason="killed") == 1
    assert value(metrics, "llmtrain_checkpoint_upload_seconds_sum") == 2.0


def test_a_restore_is_timed() -> None:
    metrics = Metrics("tiny", 2)
    assert value(metrics, "llmtrain_checkpoint_restore_seconds_count") == 0
    metrics.restored(1.5)
    assert value(metrics, "llmtrain_checkpoint_restore_seconds_sum") == 1.5


def test_every_series_has_the_jobs_name_and_none_a_label_that_scrapers_own() -> None:
    metrics = Metrics("tiny", 2)
    metrics.row(row(1))
    for family in text_string_to_metric_families(metrics.text().decode()):
        for sample in family.samples:
            assert sample.name.startswith("llmtrain_")
            assert sample.labels["train_job"] == "tiny"
            assert not {"job", "instance", "namespace", "pod"} & sample.labels.keys()
