"""Whether to restart the ranks after a failure. Pure: the time is an argument."""

from __future__ import annotations

from llmtrain_trainer.agent.gang.failure import NodeFailure
from llmtrain_trainer.config import InPlaceRestarts, Verdict
from llmtrain_trainer.config.tables.failures import RANK_FAILURES, RESTARTED, verdict_for

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before the second restart in a row that got no further, and at the most; each is twice the one before."""


class Budget:
    """Counts restarts within the window, delays them, and recognises a failure that will recur."""

    def __init__(self, restarts: InPlaceRestarts) -> None:
        self._restarts = restarts
        self._times: list[float] = []
        self._last: NodeFailure | None = None
        self._furthest, self._streak = -1, 0
        self.spent = 0
        """All restarts so far."""

    def decide(self, failure: NodeFailure, now: float) -> Verdict | None:
        """None: restart. Otherwise the verdict. `now` in seconds."""
        if failure.kind not in RESTARTED:
            return self._over(failure, "A restart will not help.")
        again = self._last is not None and failure.same_as(self._last)
        self._last = failure
        if again:
            return self._over(failure, "The same error occurred at the same step after a restart.")
        self._times = [time for time in self._times if now - time < self._restarts.window_seconds]
        if len(self._times) >= self._restarts.max:
            return self._over(failure, f"The budget of {self._restarts.max} restarts in {self._restarts.window_seconds:g} s is spent.")
        self._times.append(now)
        self.spent += 1
        self._streak = 1 if failure.step > self._furthest else self._streak + 1
        self._furthest = max(self._furthest, failure.step)
        return None

    @property
    def pause(self) -> float:
        """Seconds to wait before the restart that was granted last: none where training had got further than ever."""
        return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._streak - 2, 10)) if self._streak > 1 else 0.0

    def _over(self, failure: NodeFailure, why: str) -> Verdict:
        return verdict_for(
            RANK_FAILURES[failure.kind].reason,
            f"{failure.sentence().rstrip('.')}. {why}",
            first_failing_rank=failure.rank,
            node=failure.node,
            step=failure.step,
            restarts=self.spent,
        )
