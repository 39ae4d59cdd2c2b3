"""A rank's heartbeat: heartbeat/rank-<r>.json, read by the agent."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llmtrain_trainer.config import GpuMemory, Heartbeat
from llmtrain_trainer.run_dir.layout import write_atomically

Phase = Literal["start", "load", "data", "step", "evaluate", "save", "export", "done"]


@dataclass(slots=True)
class HeartbeatWriter:
    """Writes the rank's heartbeat; a step within a tenth of a second after the previous write is not written."""

    path: Path
    rank: int
    pid: int
    gpu: Callable[[], GpuMemory | None] = lambda: None
    """Called when a heartbeat is written."""

    step: int = 0
    phase: Phase = "start"
    rank_seconds: Sequence[float] = ()
    """Recent time of each rank for its part of a step, as in engine.StepResult."""

    _written: float = 0.0

    def beat(self, phase: Phase, step: int | None = None) -> None:
        """Report that `phase` begins; `step` counts the completed optimizer steps."""
        now = time.time()
        moved = phase not in ("data", "step") or self.phase not in ("data", "step")
        self.phase = phase
        self.step = self.step if step is None else step
        if moved or now - self._written > 0.1:
            self.write(now)

    def write(self, now: float) -> None:
        """Write the state of this rank, however recent the previous write is."""
        self._written = now
        heart = Heartbeat(
            rank=self.rank,
            pid=self.pid,
            step=self.step,
            phase=self.phase,
            time=now,
            slowdown=self._slowdown(),
            gpu_memory=self.gpu(),
        )
        write_atomically(self.path, heart.model_dump_json(by_alias=True))

    def _slowdown(self) -> float | None:
        if self.rank >= len(self.rank_seconds) or not all(self.rank_seconds):
            return None
        return self.rank_seconds[self.rank] / statistics.median(self.rank_seconds)
