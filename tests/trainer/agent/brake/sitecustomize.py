"""Holds ranks where a test wants them. Python imports this by itself in a process whose PYTHONPATH names this folder.

While the run directory has a file `hold` with a number of steps, each rank waits once it has done so many. What a test then does to the run
happens after exactly this step, however fast or busy the machine is.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from llmtrain_trainer.run_dir.heartbeat import HeartbeatWriter

_beat = HeartbeatWriter.beat


def _braked(pulse: HeartbeatWriter, phase: Any, step: int | None = None) -> None:
    _beat(pulse, phase, step)
    if phase != "data":
        return
    while _held(pulse.path.parents[1] / "hold", pulse.step):
        pulse.write(time.time())  # a rank that waits here does not hang
        time.sleep(0.02)


def _held(file: Path, step: int) -> bool:
    try:
        return step >= int(file.read_text())
    except FileNotFoundError:
        return False


HeartbeatWriter.beat = _braked  # type: ignore[method-assign]
