"""The small files between ranks and agent, and the verdict's."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from llmtrain_operator.life.from_objects import verdict_of
from llmtrain_operator.local.workdir import Tail
from llmtrain_trainer.agent.telemetry.board import Events, RowTail, read_heartbeats
from llmtrain_trainer.agent.termination import fitted
from llmtrain_trainer.config import Progress, Verdict
from llmtrain_trainer.rank.progress import row_text
from llmtrain_trainer.run_dir.heartbeat import HeartbeatWriter
from llmtrain_trainer.run_dir.layout import RunDir, append_row, read_rows

ROW = Progress(
    time=1.0,
    step=1,
    target_steps=2,
    consumed_samples=4,
    consumed_tokens=64,
    loss=math.nan,
    grad_norm=1.0,
    learning_rate=0.1,
    step_seconds=1.0,
    tokens_per_second=64.0,
)


def _no_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def test_a_loss_that_is_not_finite_is_null_in_its_row_and_read_back(tmp_path: Path) -> None:
    append_row(tmp_path / "metrics.jsonl", row_text(ROW))
    row = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=_no_constant)
    assert row["loss"] is None and row["gradNorm"] == 1.0
    assert Progress.model_validate(row).loss is None


def test_rows_that_earlier_versions_wrote_with_nan_are_read(tmp_path: Path) -> None:
    append_row(
        tmp_path / "metrics.jsonl", row_text(ROW).replace('"loss": null', '"loss": NaN').replace('"gradNorm": 1.0', '"gradNorm": Infinity')
    )
    read = Progress.model_validate(next(read_rows(tmp_path / "metrics.jsonl")))
    assert (read.loss, read.grad_norm) == (None, None)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_a_verdict_is_readable_whatever_was_not_finite(odd: float) -> None:
    row = ROW.model_copy(update={"loss": odd, "grad_norm": odd, "validation_loss": odd})
    verdict = Verdict(exit_code=65, reason="Diverged", message="x", progress=Progress.model_validate(row.model_dump()))
    for text in (verdict.model_dump_json(by_alias=True), verdict.model_dump_json(by_alias=True, exclude_none=True), fitted(verdict)):
        json.loads(text, parse_constant=_no_constant)
        assert Verdict.model_validate_json(text).progress == verdict.progress
        found = verdict_of(text)
        assert found is not None and found.reason == "Diverged"


def test_a_torn_row_is_read_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail, text = RowTail(path), row_text(ROW)
    assert tail.new_rows() == []
    path.write_text(text[:20])
    assert tail.new_rows() == []
    path.write_text(text + "\n")
    assert [row.step for row in tail.new_rows()] == [1]
    assert tail.new_rows() == []


def test_a_line_whose_end_is_written_while_it_is_read_is_no_line(tmp_path: Path) -> None:
    """A writer's line may come in two parts where it crosses a page: the reader sees the first at the file's end, then the second."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2, "message": "first part ')
    rows = read_rows(path)
    assert next(rows) == {"step": 1}
    with path.open("ab") as file:
        file.write(b'and second"}\n{"step": 3}\n')
    assert [row["step"] for row in rows] in ([], [2, 3])
    assert [row["step"] for row in read_rows(path)] == [1, 2, 3]


def test_what_a_dead_writer_left_of_a_line_costs_that_line_alone(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(row_text(ROW)[:20])
    tail = RowTail(tmp_path / "none")
    tail._path = path
    append_row(path, row_text(ROW))
    assert [row["step"] for row in read_rows(path)] == [1]
    assert [row.step for row in tail.new_rows()] == [1]
    assert [row["step"] for row in Tail(path).rows()] == [1]


def test_rows_of_an_earlier_run_in_the_same_directory_are_not_news(tmp_path: Path) -> None:
    append_row(tmp_path / "metrics.jsonl", row_text(ROW))
    assert RowTail(tmp_path / "metrics.jsonl").new_rows() == []


def test_a_pulse_is_read_back(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    HeartbeatWriter(run.heartbeat(3), 3, 77).beat("save", 12)
    assert [(beat.rank, beat.pid, beat.step, beat.phase) for beat in read_heartbeats(run)] == [(3, 77, 12, "save")]


def test_fast_steps_do_not_write_a_heartbeat_each(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    pulse = HeartbeatWriter(run.heartbeat(0), 0, 1)
    for step in range(1, 50):
        pulse.beat("step", step)
    assert read_heartbeats(run)[0].step < 49


def test_an_event_is_a_row_and_a_line(tmp_path: Path, capsys: object) -> None:
    run = RunDir(tmp_path)
    Events(run, "").record("restart", "Rank 1 ended by SIGKILL.", step=5, rank=None)
    (row,) = read_rows(run.events)
    assert {key: row[key] for key in row if key != "time"} == {"kind": "restart", "message": "Rank 1 ended by SIGKILL.", "step": 5}


def test_a_verdict_fits_a_termination_message_and_stays_json() -> None:
    verdict = Verdict(exit_code=1, reason="RankFailed", message="x" * 9000, first_failing_rank=3)
    text = fitted(verdict)
    assert len(text.encode()) <= 4096
    assert json.loads(text)["firstFailingRank"] == 3
