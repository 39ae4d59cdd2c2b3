"""The last lines of a local run: what this run did, and nothing of one before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmtrain_operator.cli.running import closing_lines
from llmtrain_operator.local.run import Outcome, Ready
from llmtrain_operator.local.watch import Snapshot
from llmtrain_operator.local.workdir import Workdir
from llmtrain_trainer.config import CheckpointStatus, Progress, Verdict

ROW: dict[str, Any] = {
    "time": 100.0,
    "step": 4,
    "target_steps": 8,
    "consumed_samples": 8,
    "consumed_tokens": 8,
    "loss": 2.5,
    "grad_norm": 1.0,
    "learning_rate": 1e-3,
    "step_seconds": 0.5,
    "tokens_per_second": 10.0,
}
REFUSED = Verdict(exit_code=2, reason="BadConfig", message="spec.task is sft.", notices=("a notice",))


def test_a_refused_resume_tells_no_loss_of_the_run_before(tmp_path: Path, make_job: Any, resolve: Any) -> None:
    """Rows of an earlier run are in no snapshot before this one has trained: see Watch."""
    ready = Ready(resolve(make_job()), Workdir(tmp_path), ())
    last = Snapshot(time=300.0, nodes=(), rows=(Progress(**ROW),))
    outcome = Outcome(exit_code=2, verdict=REFUSED, last=last, notices=REFUSED.notices, report=None)
    for given, tells in ((outcome, True), (replace(outcome, last=replace(last, rows=())), False)):
        lines = closing_lines(ready, given)
        assert lines[:2] == ["spec.task is sft.", "notice    a notice"]
        assert any(line.startswith("loss") for line in lines) is tells


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ({4: 3.5}, "validation 3.500 at step 4"),
        ({2: 3.5, 4: 3.0}, "validation 3.000 at step 4"),
        ({2: 3.0, 4: 3.5}, "validation 3.500 at step 4, lowest 3.000 at step 2"),
        ({}, None),
    ],
)
def test_the_validation_loss_is_told_at_the_end(
    losses: dict[int, float], said: str | None, tmp_path: Path, make_job: Any, resolve: Any
) -> None:
    rows = tuple(Progress(**ROW | {"step": step, "validation_loss": losses.get(step)}) for step in range(1, 5))
    outcome = Outcome(exit_code=0, verdict=None, last=Snapshot(time=300.0, nodes=(), rows=rows), notices=(), report=None)
    lines = closing_lines(Ready(resolve(make_job()), Workdir(tmp_path), ()), outcome)
    assert [line for line in lines if line.startswith("validation")] == ([said] if said else [])


def test_an_agent_that_died_without_a_word_is_told_of(tmp_path: Path, make_job: Any, resolve: Any) -> None:
    outcome = Outcome(exit_code=143, verdict=None, last=Snapshot(time=300.0, nodes=()), notices=(), report=None)
    lines = closing_lines(Ready(resolve(make_job()), Workdir(tmp_path), ()), outcome)
    assert lines[0] == "The agent ended with exit code 143 and no verdict. The end of its log:"


@pytest.mark.parametrize(
    ("resume", "saved", "said"),
    [
        ("latest", True, ["The same command resumes from there."]),
        (
            "none",
            True,
            ["With --set spec.checkpoint.resume=latest the same command resumes from there; without it, it starts from step 0."],
        ),
        ("latest", False, []),
    ],
)
def test_going_on_is_promised_where_it_holds(
    resume: str, saved: bool, said: list[str], tmp_path: Path, make_job: Any, resolve: Any
) -> None:
    ready = Ready(resolve(make_job(checkpoint={"destination": "file:///c", "resume": resume})), Workdir(tmp_path), ())
    newest = CheckpointStatus(name="step-00000004-a1-r0", step=4, uri="file:///c", bytes=1, committed_at=150.0) if saved else None
    verdict = Verdict(exit_code=75, reason="Saved", message="Told to stop.", checkpoint=newest)
    outcome = Outcome(exit_code=75, verdict=verdict, last=Snapshot(time=300.0, nodes=()), notices=(), report=None)
    assert closing_lines(ready, outcome)[1:] == said
