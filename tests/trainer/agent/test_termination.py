"""The verdict fits into Kubernetes' message whatever stands in it, and keeps what the operator decides by."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtrain_trainer.agent import termination
from llmtrain_trainer.agent.termination import TERMINATION_BYTES, fitted, write_verdict
from llmtrain_trainer.config import CheckpointStatus, Progress, Verdict
from llmtrain_trainer.run_dir.layout import RunDir

TEXT = st.text(st.sampled_from('a \n\0"\\é€\U0001f600'), max_size=300).map(lambda text: text * 20)
SAVED = CheckpointStatus(name="step-00000010-a0-r0", step=10, uri="s3://b/" + "p" * 900, bytes=1, committed_at=1.0)


def progress(metrics: int = 0) -> Progress:
    names = {f"metric {'x' * 40} {number}": number / 7 for number in range(metrics)}
    return Progress(
        time=1.0,
        step=10,
        target_steps=20,
        consumed_samples=1,
        consumed_tokens=1,
        learning_rate=0.1,
        step_seconds=1.0,
        tokens_per_second=1.0,
        metrics=names,
        validation_metrics=names,
    )


@settings(max_examples=40)
@given(TEXT, st.lists(TEXT, max_size=4), st.none() | st.just(SAVED), st.none() | st.integers(0, 60))
def test_whatever_a_verdict_says_it_fits_and_says_why(
    message: str, notices: list[str], saved: CheckpointStatus | None, metrics: int | None
) -> None:
    whole = Verdict(
        exit_code=73,
        reason="Fenced",
        message=message,
        stored_attempt=7,
        step=10,
        restarts=3,
        notices=tuple(notices),
        checkpoint=saved,
        progress=None if metrics is None else progress(metrics),
    )
    text = fitted(whole)
    assert len(text.encode()) <= TERMINATION_BYTES
    read = Verdict.model_validate_json(text)
    assert (read.exit_code, read.reason, read.stored_attempt, read.step, read.restarts) == (73, "Fenced", 7, 10, 3)
    assert message.startswith(read.message) and read.notices == whole.notices[: len(read.notices)]
    assert (read.message != "") is (message != "")


@pytest.mark.parametrize("count", [0, 1, 3, 40])
def test_as_many_notices_stay_as_there_is_room_for(count: int) -> None:
    notices = tuple(f"{number} {'x' * 200}" for number in range(count))
    read = Verdict.model_validate_json(fitted(Verdict(exit_code=0, reason="Complete", message="Done.", notices=notices)))
    assert read.notices == notices[: len(read.notices)] and read.message == "Done."
    assert len(read.notices) == min(count, (TERMINATION_BYTES - 60) // 204), "and no fewer"


def test_the_verdict_is_written_for_who_started_the_agent(tmp_path: Path) -> None:
    run, verdict = RunDir(tmp_path / "absent"), Verdict(exit_code=75, reason="Saved", message="Asked to stop.", step=4)
    assert write_verdict(run, verdict) == 75
    assert json.loads(run.termination.read_text())["reason"] == "Saved"


def test_a_disk_that_cannot_be_written_hides_no_exit_code(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert write_verdict(RunDir(tmp_path / "file"), Verdict(exit_code=12, reason="OutOfMemory", message="x")) == 12


@pytest.mark.parametrize(("pid", "is_told"), [(1, True), (77, False)])
def test_only_process_1_of_a_pod_tells_kubernetes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pid: int, is_told: bool) -> None:
    log = tmp_path / "termination-log"
    log.touch()
    monkeypatch.setattr(termination, "_TERMINATION_LOG", log)
    monkeypatch.setattr(os, "getpid", lambda: pid)
    write_verdict(RunDir(tmp_path), Verdict(exit_code=0, reason="Complete", message="Done."))
    assert bool(log.read_text()) is is_told
