"""The arguments of a program."""

from __future__ import annotations

from dataclasses import dataclass

from llmtrain_trainer.checkpoint.position import Position
from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.run_dir.heartbeat import HeartbeatWriter
from llmtrain_trainer.run_dir.layout import RunDir


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A rank that has joined the others, before its program is built."""

    config: TrainerConfig
    run: RunDir
    pulse: HeartbeatWriter
    """Tells the agent what the rank is doing; the agent restarts a rank whose heartbeats stop."""

    position: Position
    """Round, checkpoint, and the step to resume after."""
