"""Stop requests: from a signal to the file that ranks look for."""

from __future__ import annotations

import math
import signal
import time
from types import FrameType

from llmtrain_trainer.run_dir.layout import RunDir


class Stop:
    """SIGTERM or SIGINT requests a stop; a second SIGINT ends the grace period at once."""

    def __init__(self, run: RunDir, grace: float) -> None:
        """`grace`: seconds from the request until ranks are killed, saved or not."""
        self._run, self._grace = run, grace
        self._deadline = math.inf
        self.requested = False
        run.stop.unlink(missing_ok=True)  # of an earlier run in this directory
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    def expired(self) -> bool:
        """Whether the grace period is over."""
        return time.monotonic() > self._deadline

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.requested:
            if number == signal.SIGINT:
                self._deadline = 0.0
            return
        self.requested = True
        self._deadline = time.monotonic() + self._grace
        self._run.root.mkdir(parents=True, exist_ok=True)
        self._run.stop.touch()
