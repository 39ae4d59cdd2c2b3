"""When a checkpoint is due. All ranks must decide alike: a save is collective.

Steps are known to every rank. For an interval only the clock of rank 0 counts, and rank 0 broadcasts its answer. To keep broadcasts rare,
rank 0 also says after how many steps to ask again: those of half the remaining time.
"""

from __future__ import annotations

from collections.abc import Callable

from llmtrain_trainer.config import Cadence, seconds

_DUE = 0
_LONGEST_WAIT = 1000
"""Most steps between two collective checks, since step times change."""


class SaveCadence:
    """Decides when to save. One per rank."""

    def __init__(self, every: Cadence, agree: Callable[[int], int], now: Callable[[], float]) -> None:
        """`agree` returns rank 0's argument on every rank; `now` is a clock in seconds that never goes back."""
        self._steps = every.steps
        self._interval = seconds(every.interval) if every.interval else None
        self._agree = agree
        self._now = now
        self._saved_at = now()
        self._ask_at = 0

    def due(self, step: int, step_seconds: float) -> bool:
        """Whether to save after `step`, which took `step_seconds`. Collective when an interval is set."""
        by_steps = self._steps is not None and step % self._steps == 0
        return self._interval_is_over(step, step_seconds) or by_steps

    def saved(self) -> None:
        """Start the interval again."""
        self._saved_at = self._now()

    def _interval_is_over(self, step: int, step_seconds: float) -> bool:
        if self._interval is None or step < self._ask_at:
            return False
        wait = self._agree(self._steps_to_wait(self._interval, step_seconds))
        self._ask_at = step + max(1, wait)
        return wait == _DUE

    def _steps_to_wait(self, interval: float, step_seconds: float) -> int:
        left = interval - (self._now() - self._saved_at)
        if left <= 0:
            return _DUE
        return max(1, min(_LONGEST_WAIT, int(left / 2 / max(step_seconds, 1e-6))))
