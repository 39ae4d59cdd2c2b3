"""The verdict of ranks that exited normally, for each of their exit codes and each state of the store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from llmtrain_trainer.agent.claims import Claims
from llmtrain_trainer.agent.finish import Finish
from llmtrain_trainer.agent.outcome import EndedError
from llmtrain_trainer.agent.stop import Stop
from llmtrain_trainer.agent.telemetry.board import Board, Events
from llmtrain_trainer.checkpoint.store.errors import StoreError
from llmtrain_trainer.config import CheckpointStatus, ExitCode, NodeStatus, Progress
from llmtrain_trainer.config.tables.failures import verdict_for
from llmtrain_trainer.run_dir.layout import RunDir

SAVED = CheckpointStatus(name="step-00000010-a1-r0", step=10, uri="file:///store/step-00000010-a1-r0", bytes=1, committed_at=1.0)
ROW = Progress(
    time=1.0,
    step=12,
    target_steps=20,
    consumed_samples=96,
    consumed_tokens=3072,
    loss=1.0,
    grad_norm=1.0,
    learning_rate=0.1,
    step_seconds=1.0,
    tokens_per_second=256.0,
)


@dataclass
class Asked:
    """A stop that was asked for, or not."""

    requested: bool = False


@dataclass
class Uploaded:
    """The uploads as they are when the ranks have exited."""

    last: CheckpointStatus | None = SAVED
    drains: bool = True
    fenced: EndedError | None = None
    outage: StoreError | None = None

    def drain(self, _seconds: float, _stop: Stop) -> bool:
        return self.drains


@pytest.fixture
def finish(tmp_path: Path, job: Any) -> Any:
    run = RunDir(tmp_path / "run")
    run.root.mkdir()

    def of(uploads: Uploaded | None = None, *, stopped: bool = False, node_rank: int = 1) -> Finish:
        config = job.config(tmp_path / "store", **({} if uploads else {"checkpoint": None}))
        board = Board(NodeStatus(job="tiny", attempt=1, node_rank=node_rank, phase="training", progress=ROW))
        return Finish(
            config=config,
            run=run,
            node_rank=node_rank,
            board=board,
            events=Events(run, ""),
            claims=Claims(config, run, lambda _: None),
            uploads=cast("Any", uploads),
            stop=cast("Any", Asked(stopped)),
        )

    return of


def test_a_run_that_is_complete_says_after_how_many_steps(finish: Any) -> None:
    verdict = finish(Uploaded()).verdict(ExitCode.DONE, 2)
    assert (verdict.exit_code, verdict.reason, verdict.step, verdict.restarts) == (0, "Complete", 12, 2)
    assert verdict.message == "Training is complete after 12 steps."


def test_node_0_names_where_the_exports_are(finish: Any) -> None:
    verdict = finish(Uploaded(), node_rank=0).verdict(ExitCode.DONE, 0)
    assert verdict.message.startswith("Training is complete after 12 steps; exports are in file:///")


def test_a_run_that_was_asked_to_stop_names_the_checkpoint_and_its_step(finish: Any) -> None:
    verdict = finish(Uploaded(), stopped=True).verdict(ExitCode.SAVED, 0)
    assert (verdict.exit_code, verdict.reason, verdict.step) == (ExitCode.SAVED, "Saved", 10)
    assert verdict.message == "Asked to stop; step-00000010-a1-r0 is saved and verified."


@pytest.mark.parametrize(
    ("uploads", "why"), [(Uploaded(), "the newest step was not finite"), (None, "the job has no checkpoint.destination")]
)
def test_a_stop_that_saved_nothing_says_why(finish: Any, uploads: Uploaded | None, why: str) -> None:
    verdict = finish(uploads, stopped=True).verdict(ExitCode.STOPPED_UNSAVED, 0)
    assert (verdict.exit_code, verdict.message) == (ExitCode.STOPPED_UNSAVED, f"Asked to stop; {why}, so nothing is saved.")


def test_a_stop_before_the_upload_ended_says_that_the_checkpoint_is_on_local_disk(finish: Any) -> None:
    verdict = finish(Uploaded(drains=False), stopped=True).verdict(ExitCode.SAVED, 0)
    assert verdict.exit_code == ExitCode.STOPPED_UNSAVED
    assert "on local disk" in verdict.message and "grace period" in verdict.message


def test_a_store_that_never_answered_gives_its_own_reason_and_sentence(finish: Any) -> None:
    verdict = finish(Uploaded(drains=False, outage=StoreError("503 Slow Down"))).verdict(ExitCode.DONE, 0)
    assert (verdict.exit_code, verdict.reason) == (ExitCode.STORE, "StoreUnreachable")
    assert str(finish(Uploaded()).run.staging) in verdict.message and verdict.message.endswith("503 Slow Down")


@pytest.mark.parametrize(
    ("last", "said"), [(SAVED, "with finite weights is step-00000010-a1-r0"), (None, "This run committed no checkpoint")]
)
def test_training_that_diverged_names_the_newest_finite_checkpoint(finish: Any, last: CheckpointStatus | None, said: str) -> None:
    ended = finish(Uploaded(last=last))
    ended.run.diverged.parent.mkdir()
    ended.run.diverged.write_text("The loss of step 12 is not finite.")
    verdict = ended.verdict(ExitCode.DIVERGED, 0)
    assert (verdict.exit_code, verdict.reason) == (ExitCode.DIVERGED, "Diverged")
    assert verdict.message.startswith("The loss of step 12 is not finite. ") and said in verdict.message


def test_a_run_that_was_fenced_ends_as_fenced_whatever_its_ranks_did(finish: Any) -> None:
    fenced = EndedError(verdict_for("Fenced", "a later attempt writes"))
    with pytest.raises(EndedError) as caught:
        finish(Uploaded(fenced=fenced)).verdict(ExitCode.DONE, 0)
    assert caught.value is fenced
