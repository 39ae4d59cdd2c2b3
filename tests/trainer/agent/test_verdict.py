"""What an agent leaves in the termination message: the only word of it that Kubernetes keeps."""

from __future__ import annotations

from llmtrain_trainer.agent.termination import TERMINATION_BYTES, fitted
from llmtrain_trainer.config import CheckpointStatus, Progress, Verdict

ROW = Progress(
    time=1.8e9,
    step=123_456,
    target_steps=200_000,
    consumed_samples=12_345_678_901,
    consumed_tokens=12_345_678_901_234,
    loss=1.23456789012345,
    grad_norm=1.23456789012345,
    learning_rate=1.23456789012345e-5,
    step_seconds=12.3456789012345,
    tokens_per_second=123_456_789.012345,
    mfu=0.412345678901234,
)
SAVED = CheckpointStatus(name="step-00123456-a12-r3", step=123_456, uri="s3://" + "b" * 500, bytes=10**13, committed_at=1.8e9)


def test_a_verdict_with_its_last_row_and_checkpoint_fits_whatever_its_message() -> None:
    long = Verdict(exit_code=1, reason="RankFailed", message="\N{EURO SIGN}" * 5000, progress=ROW, checkpoint=SAVED)
    text = fitted(long)
    assert len(text.encode()) <= TERMINATION_BYTES
    read = Verdict.model_validate_json(text)
    assert read.progress == ROW and read.checkpoint == SAVED and read.message.startswith("\N{EURO SIGN}" * 100)


def test_a_message_that_fits_is_left_whole() -> None:
    verdict = Verdict(exit_code=0, reason="Complete", message="Training is complete.", progress=ROW, checkpoint=SAVED)
    assert Verdict.model_validate_json(fitted(verdict)) == verdict
