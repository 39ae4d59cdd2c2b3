"""How the agent judges the end of a preparation, and what it tries again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmtrain_trainer.agent.outcome import StoppedError, UnfitError
from llmtrain_trainer.agent.processes import preparing
from llmtrain_trainer.agent.processes.preparing import ending
from llmtrain_trainer.agent.telemetry.board import Events
from llmtrain_trainer.data.bad_data import BadData, Unreachable
from llmtrain_trainer.run_dir.last_words import write_last_words
from llmtrain_trainer.run_dir.layout import RunDir, read_rows

BAD = BadData("dataset[0].source", "file:///a.jsonl row 3", "it is not JSON", "Write one JSON object per line")
AWAY = Unreachable("dataset[0].source", "s3://b/a.jsonl", ConnectionResetError("reset"))

ENDS = [
    (BAD, 2, "BadData", 1),
    (ValueError("spec.task is x"), 2, "BadConfig", 1),
    (MemoryError("4 GiB"), 12, "OutOfMemory", 1),
    (AWAY, 1, "PreparationFailed", 3),
    (OSError(28, "No space left on device"), 1, "PreparationFailed", 3),
    (KeyError("x"), 2, "PreparationFailed", 2),
]


@pytest.mark.parametrize(("error", "code", "reason", "tries"), ENDS, ids=[type(end[0]).__name__ for end in ENDS])
def test_each_kind_of_error_has_its_verdict(tmp_path: Path, error: Exception, code: int, reason: str, tries: int) -> None:
    write_last_words(tmp_path / "words.json", error, step=0, starting=True)
    end = ending(1, json.loads((tmp_path / "words.json").read_text()), oom_killed=False, log=tmp_path)
    assert (end.code, end.reason, end.tries) == (code, reason, tries)
    assert str(error).strip("'").rstrip(".") in end.message


@pytest.mark.parametrize(
    ("code", "oom_killed", "expected"),
    [(-9, True, (12, "OutOfMemory", 1)), (-9, False, (1, "PreparationFailed", 3)), (-11, True, (2, "PreparationFailed", 2))],
)
def test_a_killed_preparation_is_told_from_one_that_starved(
    tmp_path: Path, code: int, oom_killed: bool, expected: tuple[int, str, int]
) -> None:
    (tmp_path / "prepare.log").write_text("tokenising file:///a.parquet\n\n")
    end = ending(code, None, oom_killed=oom_killed, log=tmp_path / "prepare.log")
    assert (end.code, end.reason, end.tries) == expected
    assert "(its last line: tokenising file:///a.parquet)" in end.message


class Process:
    """Ends at once."""

    def __init__(self, exitcode: int) -> None:
        self.exitcode = exitcode


def tried(run: RunDir, monkeypatch: pytest.MonkeyPatch, ends: list[int | Exception], stopping: bool = False) -> list[str]:
    """What is told while a preparation ends in these ways, one after the other."""
    left = iter(ends)

    def fork(*_: Any) -> Process:
        end = next(left)
        if isinstance(end, int):
            return Process(end)
        write_last_words(run.prepare_error, end, step=0, starting=True)
        return Process(1)

    monkeypatch.setattr(preparing, "fork", fork)
    monkeypatch.setattr(preparing, "_PAUSE", (0.0,))
    preparing.prepare(run, run.root, Events(run, ""), lambda: stopping, lambda: None)
    assert next(left, None) is None
    return [row["message"] for row in read_rows(run.events)]


def test_a_preparation_that_was_killed_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tried(RunDir(tmp_path), monkeypatch, [-9, AWAY, 0])
    assert "Preparation was killed by SIGKILL" in told[0]
    assert "s3://b/a.jsonl: it could not be reached" in told[1]
    assert all(line.endswith("It is retried.") for line in told)


@pytest.mark.parametrize(
    ("ends", "message"), [([-9, -9, -9], "killed by SIGKILL"), ([BAD], "row 3"), ([KeyError("x")] * 2, "This happened twice")]
)
def test_it_is_not_tried_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: list[int | Exception], message: str) -> None:
    with pytest.raises(UnfitError, match=message):
        tried(RunDir(tmp_path), monkeypatch, [*ends, 0])


def test_words_of_the_try_before_are_not_taken_for_those_of_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnfitError, match="killed by SIGKILL"):
        tried(RunDir(tmp_path), monkeypatch, [AWAY, -9, -9])


def test_a_stop_ends_the_wait_for_the_next_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "_pause", lambda *_: (_ for _ in ()).throw(StoppedError))
    with pytest.raises(StoppedError):
        tried(RunDir(tmp_path), monkeypatch, [-9, 0])


def test_what_preparation_is_at_is_shown_to_whoever_waits(tmp_path: Path, job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmtrain_trainer.agent.node import AgentOptions, _Agent
    from llmtrain_trainer.agent.processes.preparation import _say_to

    monkeypatch.setattr("llmtrain_trainer.agent.stop.signal.signal", lambda *_: None)
    run = RunDir(tmp_path / "run")
    where = {"config": run.config, "run_dir": run.root, "cache": tmp_path, "rendezvous": "127.0.0.1:1", "host": "localhost"}
    agent = _Agent(AgentOptions(**where, node_rank=0, port=0, grace=1.0), job.config(tmp_path / "store"), run)
    _say_to(run, "tokenising file:///a.jsonl")
    agent._look_at_preparation()
    assert agent._board.status.message == "Tokenising file:///a.jsonl."
