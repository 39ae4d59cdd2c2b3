"""When rank 0 writes a row, and what the row and the heartbeat say of time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_agent import Job

from llmtrain_trainer.engines.engine import StepResult
from llmtrain_trainer.rank.progress import MetricsLog, Step, StepExtras, Validation
from llmtrain_trainer.run_dir.heartbeat import HeartbeatWriter
from llmtrain_trainer.run_dir.layout import RunDir, read_rows


def step(number: int, **result: Any) -> Step:
    given = StepResult(loss=2.0, grad_norm=1.0, stop=False, **result)
    return Step(
        number=number,
        consumed_samples=8 * number,
        consumed_tokens=512 * number,
        learning_rate=1e-3,
        result=given,
        seconds=1.0,
        data_seconds=0.25,
    )


@pytest.fixture
def rows(job: Job, tmp_path: Path) -> MetricsLog:
    config = job.config(tmp_path / "store")
    config = config.model_copy(update={"training": config.training.model_copy(update={"log_every_steps": 10})})
    return MetricsLog(config=config, run=RunDir(tmp_path), rank=0, world_size=2, target_steps=30, epoch_samples=16)


def test_rows_come_at_the_first_step_every_so_often_and_where_something_happened(rows: MetricsLog) -> None:
    for number in range(3, 24):
        aside = {15: StepExtras(blocked_seconds=0.1), 17: StepExtras(validation=Validation(loss=1.0, metrics={}))}.get(number, StepExtras())
        rows.done(step(number), aside, leaving=number == 23)
    assert [row["step"] for row in read_rows(rows.run.metrics)] == [3, 10, 15, 17, 20, 23]


def test_a_row_holds_all_waiting_since_the_one_before(rows: MetricsLog) -> None:
    for number in range(1, 11):
        rows.done(step(number), StepExtras(), leaving=False)
    assert [row["dataSeconds"] for row in read_rows(rows.run.metrics)] == [0.25, 9 * 0.25]


def test_phases_add_up_to_the_step_and_the_epoch_to_what_was_seen(rows: MetricsLog) -> None:
    rows.done(step(4, phase_seconds={"forward": 0.25, "comm": 0.125}, rank_seconds=(0.5, 1.5)), StepExtras(), leaving=False)
    (row,) = read_rows(rows.run.metrics)
    assert row["phaseSeconds"] == {"data": 0.25, "forward": 0.25, "comm": 0.125, "other": 0.375}
    assert row["rankSeconds"] == {"min": 0.5, "median": 1.0, "max": 1.5}
    assert row["epoch"] == 2.0


def test_what_the_objective_measures_stands_in_the_row_and_nothing_where_it_measures_nothing(rows: MetricsLog) -> None:
    rows.done(step(1), StepExtras(), leaving=False)
    validation = Validation(loss=1.0, metrics={"accuracy": 0.5})
    rows.done(step(2, metrics={"accuracy": 0.25}), StepExtras(validation=validation), leaving=False)
    without, held = read_rows(rows.run.metrics)
    assert (held["metrics"], held["validationMetrics"]) == ({"accuracy": 0.25}, {"accuracy": 0.5})
    assert not {"metrics", "validationMetrics"} & without.keys()


@pytest.mark.parametrize(("times", "slowdown"), [((1.0, 3.0, 1.0), 3.0), ((0.0, 3.0, 1.0), None), ((), None)])
def test_a_heartbeat_says_how_much_slower_its_rank_is(tmp_path: Path, times: tuple[float, ...], slowdown: float | None) -> None:
    pulse = HeartbeatWriter(tmp_path / "rank-1.json", rank=1, pid=7)
    pulse.rank_seconds = times
    pulse.beat("step", 1)
    assert json.loads((tmp_path / "rank-1.json").read_text())["slowdown"] == slowdown
