"""What a rank that dies prints: all of an error of its own, one line of one about another rank."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmtrain_trainer.rank.main import _say_last
from llmtrain_trainer.run_dir.heartbeat import HeartbeatWriter
from llmtrain_trainer.run_dir.layout import RunDir


def said_of(error: Exception, root: Path, capsys: pytest.CaptureFixture[str]) -> str:
    run = RunDir(root)
    pulse = HeartbeatWriter(run.heartbeat(3), 3, 1)
    pulse.beat("step", 12)
    try:
        raise error
    except Exception as caught:
        _say_last(run, 3, caught, pulse)
    assert "Traceback" in json.loads(run.error(3).read_text())["traceback"]
    return capsys.readouterr().err


def test_a_rank_that_lost_another_says_so_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = said_of(RuntimeError("[gloo] Connection closed by peer [127.0.0.1]:4711\nand frames of C++"), tmp_path, capsys)
    assert said.startswith("Rank 3 lost another rank after step 12: RuntimeError: [gloo] Connection closed by peer")
    assert "Traceback" not in said and "frames of C++" not in said and str(tmp_path) in said


def test_a_rank_with_an_error_of_its_own_says_all_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = said_of(IndexError("index 512 is out of range"), tmp_path, capsys)
    assert "Traceback" in said and "IndexError: index 512 is out of range" in said
