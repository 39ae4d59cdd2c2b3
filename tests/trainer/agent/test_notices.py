"""What a person must know although training goes on: told once, shown at once, in the status and in the verdict."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmtrain_trainer.agent.telemetry.board import Board, Events
from llmtrain_trainer.agent.telemetry.notice_watch import NoticeWatch
from llmtrain_trainer.agent.termination import fitted
from llmtrain_trainer.config import NodeStatus, Verdict
from llmtrain_trainer.run_dir.layout import RunDir, read_rows
from llmtrain_trainer.run_dir.notices import MOST, forget, tell, told


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path)


def test_a_sentence_is_noted_once_however_often_it_is_told(run: RunDir) -> None:
    for _ in range(3):
        tell(run, "dataset[0]: 2 rows\nwere cut.")
    tell(run, "dataset[1]: 1 row was cut.")
    assert told(run) == ("dataset[0]: 2 rows were cut.", "dataset[1]: 1 row was cut.")
    forget(run)
    assert told(run) == ()


def test_a_flood_of_notices_ends_in_one_that_says_how_many_more(run: RunDir) -> None:
    for index in range(MOST + 10):
        tell(run, f"row {index} was cut.")
    assert len(told(run)) == MOST
    assert told(run)[-1].startswith("11 more notices are in ")


def test_a_new_notice_becomes_an_event_and_stands_in_the_status(run: RunDir) -> None:
    board = Board(NodeStatus(job="a", attempt=1, node_rank=0, phase="preparing"))
    watch = NoticeWatch(run, Events(run, ""), board)
    watch.look()
    tell(run, "dataset[0]: 2 rows were cut.")
    watch.look()
    watch.look()
    assert board.status.notices == ("dataset[0]: 2 rows were cut.",)
    assert [row["message"] for row in read_rows(run.events) if row["kind"] == "notice"] == ["dataset[0]: 2 rows were cut."]


def test_notices_give_way_where_the_termination_message_has_no_room() -> None:
    many = tuple(f"{index} {'x' * 900}" for index in range(10))
    verdict = Verdict(exit_code=2, reason="BadData", message="dataset[0].source is broken.", notices=many)
    text = fitted(verdict)
    assert len(text.encode()) <= 4096
    kept = Verdict.model_validate(json.loads(text))
    assert kept.message == verdict.message
    assert kept.notices == many[:4]
