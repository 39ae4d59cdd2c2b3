"""What Prometheus reads, and the table of names that it keeps to."""

from __future__ import annotations

import json
import math
import re
import urllib.request
from itertools import product
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.loopback import ASKED

from llmtrain_trainer.__main__ import _parser
from llmtrain_trainer.agent.telemetry.board import Board
from llmtrain_trainer.agent.telemetry.catalog import METRICS
from llmtrain_trainer.agent.telemetry.metrics import AgentMetrics
from llmtrain_trainer.agent.telemetry.server import StatusServer
from llmtrain_trainer.agent.telemetry.timeline import Timeline
from llmtrain_trainer.config import CheckpointStatus, GpuMemory, Heartbeat, NodeStatus, Progress, RankSeconds, TrainerConfig
from llmtrain_trainer.config.tables.metric import PREFIX


def config(**changes: Any) -> TrainerConfig:
    given = {
        "job": {"name": "tiny"},
        "task": "pretrain",
        "engine": "native",
        "device": "cpu",
        "model": {"config": {"model_type": "llama"}},
        "dataset": [{"source": "file:///text"}],
        "training": {"globalBatchSize": 4, "sequenceLength": 64, "maxSteps": 100},
        "mesh": {"procsPerNode": 2, "dp": 2, "stages": [[0, 2]]},
        "batch": {"globalSize": 4, "microSize": 1, "accumulation": 2},
        "estimate": {"flopsPerToken": 10.0},
    }
    return TrainerConfig.model_validate(given | changes)


def metrics_of(**changes: Any) -> AgentMetrics:
    return AgentMetrics(config(**changes), "node 0")


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


def beat(rank: int, **changes: Any) -> Heartbeat:
    return Heartbeat(**{"rank": rank, "pid": 100 + rank, "step": 5, "phase": "step", "time": 50.0 + rank} | changes)


def memory(**changes: int) -> GpuMemory:
    return GpuMemory(**{"allocated_bytes": 10, "reserved_bytes": 20, "alloc_retries": 0, "ooms": 0} | changes)


def samples(metrics: AgentMetrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(metrics.text().decode())
    return {(sample.name, frozenset(sample.labels.items())): sample.value for family in families for sample in family.samples}


def value(metrics: AgentMetrics, name: str, **labels: str) -> float:
    return samples(metrics)[f"{PREFIX}{name}", frozenset({"train_namespace": "default", "train_job": "tiny", **labels}.items())]


def test_names_types_and_labels_are_those_of_the_table() -> None:
    metrics = metrics_of(device="cuda", checkpoint={"destination": "s3://bucket/tiny", "every": {"steps": 5}})
    defined = {(PREFIX + metric.name.removesuffix("_total"), metric.kind) for metric in METRICS}
    assert {(family.name, family.type) for family in text_string_to_metric_families(metrics.text().decode())} == defined
    for metric in METRICS:
        if metric.kind != "gauge":
            suffix = "_count" if metric.kind == "histogram" else ""
            for values in product(*metric.labels.values()):
                assert value(metrics, metric.name + suffix, **dict(zip(metric.labels, values, strict=True))) == 0


def test_names_have_their_units_and_no_label_belongs_to_a_scraper() -> None:
    for metric in METRICS:
        assert re.fullmatch(r"[a-z_]+", metric.name)
        assert (metric.kind == "counter") == metric.name.endswith("_total")
        assert metric.kind != "histogram" or metric.name.endswith("_seconds")
        assert not {"job", "instance", "namespace", "pod", "rank"} & metric.labels.keys()


def test_a_metric_has_at_most_ten_series_but_where_the_world_decides() -> None:
    open_ended = {metric.name for metric in METRICS if any(not values for values in metric.labels.values())}
    assert open_ended == {"straggler_slowdown_ratio", "object_store_requests_total", "task_metric"}
    for metric in METRICS:
        assert math.prod(len(values) or 1 for values in metric.labels.values()) <= 10, metric.name


def test_what_the_task_measures_has_a_series_each_of_training_and_of_evaluation() -> None:
    metrics = metrics_of()
    metrics.row(row(1, metrics={"accuracy": 0.25}, validation_metrics={"accuracy": 0.5}))
    metrics.row(row(2, metrics={"accuracy": 0.75}))
    assert value(metrics, "task_metric", metric="accuracy", split="train") == 0.75
    assert value(metrics, "task_metric", metric="accuracy", split="validation") == 0.5


def test_a_cpu_without_a_bucket_has_no_series_of_gpus_or_buckets() -> None:
    text = metrics_of().text().decode()
    assert "gpu_memory" not in text
    assert "gpu_oom" not in text
    assert "object_store" not in text


def test_a_row_shows_in_gauges_and_histograms() -> None:
    metrics = metrics_of()
    more = {"epoch": 0.25, "phase_seconds": {"data": 0.1, "forward": 0.2}, "rank_seconds": RankSeconds(min=0.3, median=0.4, max=0.5)}
    metrics.row(row(1, validation_loss=2.5, mfu=0.4, blocked_seconds=0.2, **more))
    assert value(metrics, "loss") == 3.0
    assert value(metrics, "validation_loss") == 2.5
    assert value(metrics, "epoch_ratio") == 0.25
    assert value(metrics, "model_flops_utilization_ratio") == 0.4
    assert value(metrics, "tokens_per_second_per_gpu") == 256.0
    assert value(metrics, "flops_per_second_per_gpu") == 2560.0
    assert value(metrics, "eta_seconds") == 49.5
    assert value(metrics, "step_duration_seconds_count") == 1
    assert value(metrics, "step_phase_duration_seconds_sum", phase="forward") == 0.2
    assert value(metrics, "rank_step_duration_seconds", stat="max") == 0.5
    assert value(metrics, "checkpoint_blocking_seconds_sum", tier="memory") == 0.2


def test_no_counter_goes_back_after_a_restart() -> None:
    metrics = metrics_of()
    for step in (1, 2, 3, 2, 3, 4):
        metrics.row(row(step))
    assert value(metrics, "tokens_processed_total") == 6 * 256


def test_rows_that_are_logged_now_and_then_count_all_their_tokens() -> None:
    metrics = metrics_of()
    metrics.row(row(10))
    metrics.row(row(20))
    assert value(metrics, "samples_processed_total") == 4 + 40


def test_a_loss_that_is_no_number_is_counted() -> None:
    metrics = metrics_of()
    metrics.row(row(1, loss=math.nan))
    assert value(metrics, "nonfinite_loss_total") == 1


def test_a_commit_shows_the_last_durable_step() -> None:
    metrics = metrics_of()
    metrics.committed(CheckpointStatus(name="step-00000007-a0-r1", step=7, uri="file:///x", bytes=10, committed_at=5.0))
    metrics.saved(0.5)
    metrics.uploaded(2.0)
    metrics.restored(1.5)
    assert value(metrics, "checkpoint_last_durable_step") == 7
    assert value(metrics, "checkpoints_total", result="committed") == 1
    assert value(metrics, "checkpoint_save_seconds_sum", tier="local") == 0.5
    assert value(metrics, "checkpoint_upload_seconds_sum", tier="object") == 2.0
    assert value(metrics, "checkpoint_restore_seconds_sum", tier="object") == 1.5


def test_a_damaged_checkpoint_is_counted_and_an_upload_that_was_cut_off_is_not() -> None:
    metrics = metrics_of()
    metrics.event({"kind": "checkpoint_rejected", "message": "flipped", "committed": True})
    metrics.event({"kind": "checkpoint_rejected", "message": "no COMMIT", "committed": False})
    metrics.event({"kind": "restart", "message": "other"})
    assert value(metrics, "checkpoint_verify_failures_total") == 1


def test_the_slowest_rank_of_the_node_is_its_straggler() -> None:
    metrics = metrics_of()
    metrics.heartbeats([beat(0, slowdown=0.9), beat(1, slowdown=1.7)])
    assert value(metrics, "straggler_slowdown_ratio", node="node 0") == 1.7
    assert value(metrics, "last_heartbeat_timestamp_seconds") == 50.0


def test_counts_of_an_allocator_go_on_when_its_process_begins_anew() -> None:
    metrics = metrics_of(device="cuda")
    metrics.heartbeats([beat(0, gpu_memory=memory(alloc_retries=3)), beat(1, gpu_memory=memory(allocated_bytes=12))])
    metrics.heartbeats([beat(0, gpu_memory=memory(alloc_retries=4, ooms=1))])
    metrics.heartbeats([beat(0, pid=7, gpu_memory=memory(alloc_retries=2))])
    assert value(metrics, "gpu_alloc_retries_total") == 6
    assert value(metrics, "gpu_oom_total") == 1
    assert value(metrics, "gpu_memory_allocated_bytes") == 12
    assert value(metrics, "gpu_memory_reserved_bytes") == 20


def test_requests_to_a_bucket_are_counted_by_operation_and_code() -> None:
    metrics = metrics_of(checkpoint={"destination": "s3://bucket/tiny", "every": {"steps": 5}})
    metrics.answered("PutObject", "503")
    metrics.tried_again()
    metrics.answered("PutObject", "200")
    assert value(metrics, "object_store_requests_total", op="PutObject", code="503") == 1
    assert value(metrics, "object_store_retries_total") == 1


class Spent(dict[str, float]):
    """Seconds by state."""

    def add(self, state: str, seconds: float) -> None:
        self[state] = self.get(state, 0.0) + seconds


def test_every_second_is_in_one_state() -> None:
    spent = Spent()
    line = Timeline(0.0, spent.add)
    line.restored(2.0)
    line.starts(0)
    line.row(row(1, time=10.0, step_seconds=1.0))
    line.row(row(5, time=15.0, blocked_seconds=0.5, data_seconds=0.25))
    line.row(row(10, time=20.0))
    line.failed(None)
    line.failed(26.0)
    line.restored(1.0)
    line.starts(5)
    line.row(row(6, time=30.0, step_seconds=1.0))
    line.row(row(15, time=39.0))
    assert spent == pytest.approx(
        {
            "restore": 2.0 + 1.0,
            "starting": 7.0,
            "productive": 1.0 + 4.25 + 5.0 + 5.0,
            "checkpoint": 0.5,
            "data_wait": 0.25,
            "hung": 6.0,
            "restart": 2.0,
            "recompute": 1.0 + 4.0,
        }
    )
    assert sum(spent.values()) == 39.0


def test_a_clock_that_was_set_back_takes_nothing_away() -> None:
    spent = Spent()
    line = Timeline(100.0, spent.add)
    line.row(row(1, time=50.0))
    assert spent == {}


@pytest.mark.parametrize(
    "host", ["::", str(_parser().parse_args(["agent", "--config", "c", "--run-dir", "r", "--rendezvous", "h:1"]).host)]
)
@pytest.mark.parametrize("asked", ASKED)
def test_the_pages_are_answered_on_ipv4_and_on_ipv6(host: str, asked: str) -> None:
    board = Board(NodeStatus(job="demo", attempt=1, node_rank=0, phase="preparing"))
    server = StatusServer(board, metrics_of(), host, 0)
    with urllib.request.urlopen(f"http://{asked}:{server.port}/status", timeout=60) as answer:
        assert json.loads(answer.read())["job"] == "demo"
