"""How much Prometheus has to read and keep: bounds that do not grow with the gang."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from llmtrain_operator.api.job import Status
from llmtrain_operator.kube.metrics.operator import OperatorMetrics
from llmtrain_trainer.agent.telemetry.metrics import AgentMetrics
from llmtrain_trainer.config import CheckpointStatus, GpuMemory, Heartbeat, Progress, RankSeconds, TrainerConfig
from llmtrain_trainer.config.tables.failures import FAILURES, RESTARTED
from llmtrain_trainer.config.tables.time_accounts import OF_AN_AGENT, TIME_STATES

PAGE = (Path(__file__).parents[2] / "docs" / "operations" / "metrics.md").read_text()
NAME = "a-job-with-a-name-that-is-about-as-long-as-people-make-them"
PER_NODE = 8


def bounds(row: str) -> tuple[int, int]:
    """Series and bytes that the page promises."""
    found = re.search(rf"^\| {row}[^|]*\| at most ([\d,]+) \| at most ([\d,]+) \|$", PAGE, re.MULTILINE)
    assert found
    return int(found[1].replace(",", "")), int(found[2].replace(",", ""))


def series(page: bytes) -> int:
    return sum(bool(line) and not line.startswith(b"#") for line in page.splitlines())


def busy_node(ranks: int) -> AgentMetrics:
    """Node 0 of a gang in which everything happened that has a series."""
    given: dict[str, Any] = {
        "job": {"name": NAME, "namespace": "a-team-of-the-company"},
        "task": "pretrain",
        "engine": "native",
        "device": "cuda",
        "model": {"config": {"model_type": "llama"}},
        "dataset": [{"source": "file:///text"}],
        "training": {"globalBatchSize": ranks, "sequenceLength": 64, "maxSteps": 100},
        "mesh": {"nodes": ranks // PER_NODE, "procsPerNode": PER_NODE, "dp": ranks, "stages": [[0, 2]]},
        "batch": {"globalSize": ranks, "microSize": 1, "accumulation": 1},
        "estimate": {"flopsPerToken": 10.0},
        "checkpoint": {"destination": "s3://bucket/tiny", "every": {"steps": 5}},
    }
    metrics = AgentMetrics(TrainerConfig.model_validate(given), "node 0")
    metrics.row(
        Progress(
            time=1e9,
            step=12345,
            target_steps=100_000,
            consumed_samples=10**9,
            consumed_tokens=10**12,
            loss=3.0123456,
            grad_norm=1.0123456,
            learning_rate=1.2345e-4,
            step_seconds=0.512345,
            tokens_per_second=512_345.6789,
            mfu=0.41234,
            validation_loss=3.1,
            epoch=0.5,
            blocked_seconds=0.2,
            metrics={f"metric_{index}": 0.5 for index in range(6)},
            validation_metrics={f"metric_{index}": 0.5 for index in range(6)},
            phase_seconds=dict.fromkeys(("data", "forward", "backward", "optimizer", "comm", "other"), 0.1),
            rank_seconds=RankSeconds(min=0.3, median=0.4, max=0.5),
        )
    )
    memory = GpuMemory(allocated_bytes=70 * 2**30, reserved_bytes=75 * 2**30, alloc_retries=3, ooms=1)
    metrics.heartbeats(
        [Heartbeat(rank=rank, pid=rank, step=5, phase="step", time=1e9, slowdown=1.1, gpu_memory=memory) for rank in range(PER_NODE)]
    )
    metrics.committed(CheckpointStatus(name="step-00000007-a0-r1", step=7, uri="file:///x", bytes=10**12, committed_at=1e9))
    for reason in RESTARTED:
        metrics.restart(reason)
    for state in OF_AN_AGENT:
        metrics.spent(state, 12345.678)
    for op in ("PutObject", "GetObject", "HeadObject", "ListObjectsV2", "UploadPart", "DeleteObjects"):
        for code in ("200", "404", "503", "error"):
            metrics.answered(op, code)
    return metrics


@pytest.mark.parametrize("ranks", [64, 1024])
def test_a_node_tells_no_more_of_a_large_gang(ranks: int) -> None:
    page = busy_node(ranks).text()
    most_series, most_bytes = bounds("node 0 of a job")
    assert series(page) <= most_series and len(page) <= most_bytes
    assert series(page) == series(busy_node(8).text())


@pytest.mark.parametrize("jobs", [1, 512])
def test_the_operator_tells_a_bounded_amount_of_each_job(jobs: int) -> None:
    reasons = dict.fromkeys(list(FAILURES)[:6], 1000)
    status = Status.model_validate(
        {
            "phase": "Restarting",
            "attempt": 123,
            "startTime": "2027-01-15T08:00:00Z",
            "pods": {"wanted": 128, "created": 128, "scheduled": 128, "running": 127},
            "plan": {"engine": "megatron", "layout": "pp4 dp32 tp8", "gpus": 1024, "model": "hf://" + "m" * 200},
            "progress": {"step": 1, "targetSteps": 2, "loss": 2.345678, "tokensPerSecond": 1e6 / 3, "lastStepTime": "2027-01-15T08:00:00Z"},
            "checkpoint": {"name": "x", "step": 30, "uri": "s3://c/x", "time": "2027-01-15T08:00:00Z"},
            "restarts": {"byReason": reasons},
            "failure": {"reason": "RestartBudgetSpent"},
            "goodput": {
                "ratio": 0.912,
                "byCause": dict.fromkeys(TIME_STATES, 123456.7),
                "gpuHoursByCause": dict.fromkeys(TIME_STATES, 123456.7891),
            },
        }
    )
    metrics = OperatorMetrics()
    empty = metrics.page()
    for index in range(jobs):
        metrics.jobs.note(("a-team-of-the-company", f"{NAME[:50]}-{index}"), 1.8e9, status, status)
    page, (most_series, most_bytes) = metrics.page(), bounds("operator, per job")
    assert series(page) - series(empty) <= most_series * jobs
    assert len(page) - len(empty) <= most_bytes * jobs
