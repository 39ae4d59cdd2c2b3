"""The stages after the ranks exited normally: the last uploads, the exports, the verdict."""

from __future__ import annotations

from dataclasses import dataclass

from llmtrain_trainer.agent import outputs
from llmtrain_trainer.agent.claims import Claims
from llmtrain_trainer.agent.stop import Stop
from llmtrain_trainer.agent.telemetry.board import Board, Events
from llmtrain_trainer.agent.uploads import Uploads
from llmtrain_trainer.config import CheckpointStatus, ExitCode, TrainerConfig, Verdict
from llmtrain_trainer.config.tables.failures import verdict_for
from llmtrain_trainer.run_dir.layout import RunDir

_DRAIN_SECONDS = 3600.0
"""How long a finished training waits for an unreachable store before it gives up its last checkpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """What these stages need of the node."""

    config: TrainerConfig
    run: RunDir
    node_rank: int
    board: Board
    events: Events
    claims: Claims
    uploads: Uploads | None
    """None for a job without checkpoints."""

    stop: Stop

    def verdict(self, code: ExitCode, restarts: int) -> Verdict:
        """Upload checkpoints and exports; returns the verdict. Raises FencedError, and StoreError if exports cannot be stored."""
        step = self.board.status.progress.step if self.board.status.progress else None
        if code == ExitCode.STOPPED_UNSAVED:
            lacking = "the newest step was not finite" if self.config.checkpoint else "the job has no checkpoint.destination"
            message = f"Asked to stop; {lacking}, so nothing is saved."
            return verdict_for("StoppedUnsaved", message, step=step, restarts=restarts)
        if code == ExitCode.DONE:
            self.board.update(phase="exporting", message="Uploading the last checkpoint, the exports and the report.")
        drained = self.uploads is None or self.uploads.drain(_DRAIN_SECONDS, self.stop)
        if self.uploads is not None and self.uploads.fenced is not None:
            raise self.uploads.fenced
        if not drained:
            return self._undrained(step, restarts)
        last = self.uploads.last if self.uploads else None
        if code == ExitCode.DIVERGED:
            return self._diverged(last, step, restarts)
        if code == ExitCode.SAVED:
            message = f"Asked to stop; {last.name} is saved and verified." if last else "Asked to stop; saved."
            return verdict_for("Saved", message, step=last.step if last else step, restarts=restarts)
        where = self._publish() if self.node_rank == 0 else None
        message = f"Training is complete{f' after {step} steps' if step else ''}{f'; exports are in {where}' if where else ''}."
        return Verdict(exit_code=ExitCode.DONE, reason="Complete", message=message, step=step, restarts=restarts)

    def _diverged(self, last: CheckpointStatus | None, step: int | None, restarts: int) -> Verdict:
        """The verdict of training that diverged: no weights that are not finite were saved."""
        newest = f"The newest checkpoint with finite weights is {last.name}" if last else "This run committed no checkpoint"
        message = (
            f"{self.run.diverged.read_text()} These weights are neither saved nor exported. {newest}. "
            "Lower training.optimizer.learningRate, clip gradients, or check weights and data."
        )
        return verdict_for("Diverged", message, step=step, restarts=restarts)

    def _undrained(self, step: int | None, restarts: int) -> Verdict:
        if self.stop.requested:
            message = "Asked to stop; the checkpoint is on local disk, but could not be uploaded to the store within the grace period."
            return verdict_for("StoppedUnsaved", message, step=step, restarts=restarts)
        outage = self.uploads.outage if self.uploads is not None else None
        message = f"The last checkpoint could not be committed; it is on local disk, in {self.run.staging}. {outage or ''}".rstrip()
        return verdict_for("StoreUnreachable", message, step=step, restarts=restarts)

    def _publish(self) -> str | None:
        outputs.write_report(self.config, self.run)
        self.claims.check_output()
        where = outputs.publish(self.config, self.run)
        self.events.record("export", f"The exports are in {where or self.run.root}.")
        return where
