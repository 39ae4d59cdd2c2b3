"""What an agent reads of its ranks, and what it says of itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtrain_trainer.agent.telemetry.board import Board, Events, RowTail, read_heartbeats
from llmtrain_trainer.config import Heartbeat, NodeStatus, Progress
from llmtrain_trainer.run_dir.layout import RunDir, append_row, read_rows


def row(step: int) -> str:
    return Progress(
        time=float(step),
        step=step,
        target_steps=9,
        consumed_samples=step,
        consumed_tokens=step,
        learning_rate=0.1,
        step_seconds=1.0,
        tokens_per_second=1.0,
    ).model_dump_json(by_alias=True)


def steps(tail: RowTail) -> list[int]:
    return [found.step for found in tail.new_rows()]


def test_rows_come_once_and_those_of_an_earlier_agent_do_not(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert steps(RowTail(path)) == [], "before there is a file"
    append_row(path, row(1))
    tail = RowTail(path)
    assert steps(tail) == []
    append_row(path, row(2))
    append_row(path, row(3))
    assert [steps(tail), steps(tail)] == [[2, 3], []]


def test_a_file_that_comes_later_is_read_from_its_beginning(tmp_path: Path) -> None:
    tail = RowTail(tmp_path / "metrics.jsonl")
    append_row(tmp_path / "metrics.jsonl", row(1))
    assert steps(tail) == [1]


@settings(max_examples=25)  # each writes files
@given(st.lists(st.integers(1, 400), max_size=12))
def test_however_the_bytes_arrive_each_row_is_read_once(tmp_path_factory: pytest.TempPathFactory, pieces: list[int]) -> None:
    path = tmp_path_factory.mktemp("tail") / "metrics.jsonl"
    tail, found = RowTail(path), []
    left = "".join(f"{row(step)}\n" for step in (1, 2, 3)).encode()
    with path.open("ab", buffering=0) as file:
        for size in [*pieces, 10_000]:
            file.write(left[:size])
            left = left[size:]
            found += steps(tail)
    assert found == [1, 2, 3]


def test_a_line_that_was_torn_for_good_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = RowTail(path)
    path.write_text(row(1)[:30])
    assert steps(tail) == []
    append_row(path, row(2))
    assert steps(tail) == [2]


def test_heartbeats_are_in_the_order_of_ranks_and_drafts_are_none(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert read_heartbeats(run) == []
    for rank in (10, 2, 0):
        beat = Heartbeat(rank=rank, pid=1, step=rank, phase="step", time=1.0)
        run.heartbeat(rank).parent.mkdir(exist_ok=True)
        run.heartbeat(rank).write_text(beat.model_dump_json(by_alias=True))
    (tmp_path / "heartbeat" / ".rank-3.json.77").write_text("{")
    assert [beat.rank for beat in read_heartbeats(run)] == [0, 2, 10]


def test_an_event_is_heard_written_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, heard = RunDir(tmp_path), []
    events = Events(run, "node-1: ", lambda event: heard.append(event["kind"]))
    events.record("restart", "Rank 3 was killed.", step=7, node=None)
    events({"kind": "tick", "time": 5.0})
    rows = list(read_rows(run.events))
    assert [found["kind"] for found in rows] == heard == ["restart", "tick"]
    assert (rows[0]["step"], "node" in rows[0], rows[1]["time"]) == (7, False, 5.0)
    assert capsys.readouterr().out == "node-1: Rank 3 was killed.\n"


def test_the_status_is_replaced_whole(tmp_path: Path) -> None:
    board = Board(NodeStatus(job="j", attempt=1, node_rank=0, phase="preparing"))
    before = board.status
    board.update(phase="training", message="Training: 3 steps done.", restarts=2)
    assert (before.phase, before.restarts) == ("preparing", 0)
    assert board.status == NodeStatus(job="j", attempt=1, node_rank=0, phase="training", message="Training: 3 steps done.", restarts=2)
    assert json.loads(board.status.model_dump_json(by_alias=True))["nodeRank"] == 0
