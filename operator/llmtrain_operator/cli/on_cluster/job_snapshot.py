"""A job on a cluster as the Snapshots that the live view draws. Pure: objects, answers and the time are arguments."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from llmtrain_operator.api.job import Status
from llmtrain_operator.api.job.status import TrainingProgress
from llmtrain_operator.life.from_objects import status_of
from llmtrain_operator.life.times import seconds_of
from llmtrain_operator.local.watch import Happening, Snapshot
from llmtrain_trainer.config import CheckpointStatus, NodeStatus, Progress
from llmtrain_trainer.config.tables.tasks import DEFAULT_TASK


def title(job: dict[str, Any]) -> str:
    """The title of a job: `llama3-8b: sft with native, pp2 dp2 tp4, 16 GPUs on 2 nodes`."""
    name, task = job["metadata"]["name"], (job.get("spec") or {}).get("task", DEFAULT_TASK)
    plan = status_of(job.get("status") or {}).plan
    if plan is None:
        return f"{name}: {task}"
    gpus = f"{plan.gpus} GPUs on " if plan.gpus else ""
    return f"{name}: {task} with {plan.engine}, {plan.layout}, {gpus}{plan.nodes} {'node' if plan.nodes == 1 else 'nodes'}"


@dataclass(slots=True)
class Story:
    """What was shown of a job so far: rows are collected, and each event is shown once."""

    _rows: dict[int, Progress] = field(default_factory=dict)
    _before: Status | None = None

    def go_on(self, job: dict[str, Any], leader: NodeStatus | None, now: float) -> Snapshot:
        """The next snapshot. `leader` is the answer of node 0's agent, if it can be reached."""
        status = status_of(job.get("status") or {})
        row = (leader.progress if leader else None) or row_of(status.progress)
        if row is not None:
            self._rows = {step: old for step, old in self._rows.items() if step < row.step} | {row.step: row}
        news, self._before = tuple(_news(self._before, status)), status
        return Snapshot(
            time=now,
            nodes=(leader,) if leader is not None else (),
            rows=tuple(self._rows[step] for step in sorted(self._rows)),
            checkpoint=_checkpoint(leader, status),
            news=news,
            state=_state(status),
            all_restarts=status.restarts.total if status.restarts else 0,
        )


def row_of(progress: TrainingProgress | None) -> Progress | None:
    """A row of metrics from the status; the time of a step follows from its tokens and the speed."""
    if progress is None or not progress.step or not progress.target_steps:
        return None
    speed, tokens = progress.tokens_per_second or 0.0, (progress.consumed_tokens or 0) / progress.step
    return Progress(
        time=seconds_of(progress.last_step_time) or 0.0,
        step=progress.step,
        target_steps=progress.target_steps,
        consumed_samples=0,
        consumed_tokens=progress.consumed_tokens or 0,
        loss=progress.loss,
        grad_norm=None,
        learning_rate=math.nan,
        step_seconds=tokens / speed if speed else math.nan,
        tokens_per_second=speed,
        mfu=progress.mfu,
        metrics=dict(progress.metrics or {}),
        validation_loss=progress.validation_loss,
        validation_metrics=dict(progress.validation_metrics or {}),
    )


def _news(before: Status | None, now: Status) -> list[Happening]:
    """Events since the previous status: a new state, a restart, a notice, a checkpoint."""
    found = []
    if _state(now) != (_state(before) if before else ""):
        found.append(Happening(0, "state", _state(now)))
    restarts = [status.restarts.total if status is not None and status.restarts else 0 for status in (before, now)]
    if before is not None and restarts[1] > restarts[0]:
        found.append(Happening(0, "restart", f"Restart {restarts[1]}: {now.failure.message if now.failure else 'no reason is given.'}"))
    found += [Happening(0, "notice", notice) for notice in now.notices if before is None or notice not in before.notices]
    if now.checkpoint is not None and (before is None or before.checkpoint is None or before.checkpoint.name != now.checkpoint.name):
        found.append(Happening(0, "checkpoint_committed", f"{now.checkpoint.name} is committed and verified."))
    return found


def _state(status: Status) -> str:
    if status.phase is None:
        return "No operator has processed it yet."
    attempt = f" (attempt {status.attempt})" if (status.attempt or 0) > 1 else ""
    return f"{status.phase}{attempt}: {status.message or ''}".rstrip(": ")


def _checkpoint(leader: NodeStatus | None, status: Status) -> CheckpointStatus | None:
    """The newer checkpoint of the two reports."""
    told = leader.checkpoint if leader else None
    kept = status.checkpoint
    if kept is None or (told is not None and told.step >= kept.step):
        return told
    return CheckpointStatus(name=kept.name, step=kept.step, uri=kept.uri, bytes=kept.bytes or 0, committed_at=seconds_of(kept.time) or 0.0)
