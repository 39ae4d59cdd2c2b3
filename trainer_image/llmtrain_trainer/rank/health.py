"""Whether training is still worth saving: judged after every step from loss, gradient norm and weights. Pure.

A step whose loss or norm is not finite is never saved and never exported; several in a row end training. A loss far above its lowest mean
is reported, and later checkpoints then replace none of the earlier ones. Training continues, because a loss may come down again. A run
whose loss is still that high at the last step is not exported.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from dataclasses import dataclass, field

from llmtrain_trainer.engines.engine import StepResult

_WINDOW = 5
"""Number of losses whose mean is compared: one bad batch is not a divergence."""

_TIMES, _NATS = 2.0, 1.0
"""A mean loss above _TIMES x lowest mean + _NATS is a divergence."""


@dataclass(slots=True, kw_only=True)
class Health:
    """One per rank; every rank gets the same figures and decides the same."""

    limit: int
    """Training ends after this many consecutive steps whose loss or norm is not finite."""

    streak: int = 0
    """Consecutive steps, up to the newest, that were not finite."""

    diverged: bool = False
    """The loss is far above its lowest value."""

    sound: bool = True
    """The newest step and its evaluation were finite: it may be saved."""

    _losses: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    _lowest: float = math.inf

    def judge(self, number: int, result: StepResult, validation: float | None) -> str | None:
        """Record a step. Returns a sentence for a person if the state changed."""
        if not (math.isfinite(result.loss) and math.isfinite(result.grad_norm)):
            self.streak, self.sound = self.streak + 1, False
            left_out = "; its update was skipped" if result.skipped else ""
            return f"Step {number} had a loss of {result.loss:.4g} and a gradient norm of {result.grad_norm:.4g}{left_out}."
        self.streak, self.sound = 0, validation is None or math.isfinite(validation)
        if not self.sound:
            return f"The evaluation after step {number} had a loss of {validation:.4g}; the weights at that step are not saved."
        return self._compare(number, result.loss)

    def over(self, number: int, *, last: bool) -> str | None:
        """Why training must end, or must not be exported; None if all is well. `number`: the last recorded step."""
        if last and self.diverged:
            mean = statistics.fmean(self._losses)
            return f"Training diverged: the loss is {mean:.4g} at the last step, {number}; its lowest value was {self._lowest:.4g}."
        if self.streak < self.limit:
            return None
        count = "step" if self.streak == 1 else f"{self.streak} steps"
        return f"Training diverged: loss or gradient norm of the last {count} up to step {number} were not finite."

    def _compare(self, number: int, loss: float) -> str | None:
        self._losses.append(loss)
        mean = statistics.fmean(self._losses)
        self._lowest = min(self._lowest, mean)
        before, self.diverged = self.diverged, mean > _TIMES * self._lowest + _NATS
        if self.diverged == before:
            return None
        if before:
            return f"The loss is back at {mean:.4g} at step {number}, near its lowest, {self._lowest:.4g}: training continues as usual."
        return (
            f"The loss rose to {mean:.4g} at step {number}, from {self._lowest:.4g} at its lowest: training diverges. "
            "From here on no earlier checkpoint is deleted. If the loss is still high at the last step, nothing is exported."
        )
