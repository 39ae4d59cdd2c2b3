"""Where the time of a run went: every second from the agent's start to the newest row, in one state each. Pure."""

from __future__ import annotations

from collections.abc import Callable

from llmtrain_trainer.config import Progress
from llmtrain_trainer.config.tables.time_accounts import TimeState, while_training


class Timeline:
    """Fed on node 0, which has the rows; elsewhere it stays empty."""

    def __init__(self, began: float, spend: Callable[[TimeState, float], None]) -> None:
        """`began`: seconds since the epoch. `spend` is told of each stretch: its state and its seconds."""
        self._until, self._spend = began, spend
        self._step = self._furthest = 0
        self._gap: TimeState | None = "starting"
        self._restored = 0.0

    @property
    def step(self) -> int:
        """Of the newest row of this round, or where the round began."""
        return self._step

    def restored(self, seconds: float) -> None:
        """A part of the gap before the next row was spent on a checkpoint."""
        self._restored += seconds

    def starts(self, step: int) -> None:
        """The ranks resume after `step`."""
        self._step = step

    def failed(self, hung_until: float | None) -> None:
        """The ranks are gone; `hung_until`: when they were found to hang, where that is why."""
        if hung_until is not None:
            self._add("hung", hung_until - self._until)
            self._until = max(self._until, hung_until)
        self._gap = "restart"

    def row(self, row: Progress) -> None:
        """A new row. A round's first row is that of its first step."""
        elapsed = max(0.0, row.time - self._until)
        self._until = max(self._until, row.time)
        if self._gap is not None:
            elapsed -= self._close_gap(max(0.0, elapsed - row.step_seconds - row.blocked_seconds))
        spent = while_training(
            elapsed, first=self._step, last=row.step, furthest=self._furthest, blocked=row.blocked_seconds, waited=row.data_seconds
        )
        for state, seconds in spent.items():
            self._add(state, seconds)
        self._step, self._furthest = row.step, max(self._furthest, row.step)

    def _close_gap(self, gap: float) -> float:
        restore = min(gap, self._restored)
        self._add("restore", restore)
        self._add(self._gap or "restart", gap - restore)
        self._gap, self._restored = None, 0.0
        return gap

    def _add(self, state: TimeState, seconds: float) -> None:
        if seconds > 0:
            self._spend(state, seconds)
