"""Two runs in one workdir: the second is refused before it moves or writes anything."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.cli.refusal import refusal
from llmtrain_operator.local.lock import WorkdirInUseError, lock
from llmtrain_operator.local.run import get_ready
from llmtrain_operator.local.workdir import Workdir

Make = Callable[..., LLMTrainJob]


def small(make_job: Make, place: Path) -> LLMTrainJob:
    data = place / "text.jsonl"
    data.write_text('{"text": "one"}\n')
    return make_job(parallelism={}, resources={"procsPerNode": 1}, dataset=[{"source": f"file://{data}"}])


def test_a_second_run_in_a_workdir_is_refused_with_pid_and_way_out_and_changes_nothing(tmp_path: Path, make_job: Make) -> None:
    first = get_ready(small(make_job, tmp_path), Workdir(tmp_path / "w"))
    (tmp_path / "w" / "node-0" / "metrics.jsonl").write_text("rows\n")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "w").rglob("*")}
    with pytest.raises(WorkdirInUseError) as caught:
        get_ready(small(make_job, tmp_path), Workdir(tmp_path / "w"))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "w").rglob("*")} == before
    told = refusal(caught.value)
    assert told is not None and told.exit_code == 2
    assert f"process {os.getpid()}" in told.lines[0] and "give --workdir another directory" in told.lines[0]
    del first, caught
    get_ready(small(make_job, tmp_path), Workdir(tmp_path / "w"))


def test_a_workdir_under_another_name_is_the_same_workdir(tmp_path: Path) -> None:
    held = lock(tmp_path / "w")
    (tmp_path / "link").symlink_to(tmp_path / "w")
    with pytest.raises(WorkdirInUseError):
        lock(tmp_path / "link")
    del held
    lock(tmp_path / "link")
