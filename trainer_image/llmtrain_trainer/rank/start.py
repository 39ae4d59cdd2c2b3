"""The arguments of a program."""

from __future__ import annotations

from dataclasses import dataclass

from llmtrain_trainer.checkpoint.position import Position
from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.run_dir.heartbeat import HeartbeatWriter
from llmtrain_trainer.run_dir.layout import RunDir


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A rank that has joined the others, before anything of its work is built."""

    config: TrainerConfig
    run: RunDir
    pulse: HeartbeatWriter
    """Tells the agent where the rank is; one that falls silent for too long is restarted."""

    position: Position
    """Round, checkpoint, and how far training got."""
