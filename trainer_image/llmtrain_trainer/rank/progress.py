"""Rows of metrics.jsonl, written by rank 0.

There is a row after the first step of a round, every training.logEverySteps, and wherever something else happened: an evaluation, a
checkpoint, the end. So the time between two rows is the time of the steps between them.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from llmtrain_trainer.config import Progress, RankSeconds, TrainerConfig
from llmtrain_trainer.engines.engine import StepResult
from llmtrain_trainer.run_dir.layout import RunDir, append_row


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One completed optimizer step and its figures."""

    number: int
    consumed_samples: int
    """Samples since the start of training, with those of this step."""

    consumed_tokens: int
    """Tokens since the start of training, with padding and with those of this step."""

    learning_rate: float
    result: StepResult
    seconds: float
    """Wall time of batch and step, seconds."""

    data_seconds: float
    """Part of it spent waiting for the batch, seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """Means over the targets of an evaluation."""

    loss: float
    """Nats."""

    metrics: Mapping[str, float]
    """Further metrics of the objective."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepExtras:
    """What happened after a step, besides the next one."""

    validation: Validation | None = None
    blocked_seconds: float = 0.0
    memory_bytes: int | None = None


@dataclass(slots=True, kw_only=True)
class MetricsLog:
    """Writes the rows on rank 0; does nothing on other ranks."""

    config: TrainerConfig
    run: RunDir
    rank: int
    world_size: int
    target_steps: int
    epoch_samples: int | None
    """Samples of one pass over the training data; None where they are not known beforehand."""

    passed: Callable[[int], int] = int
    """Samples of the current datasets among the first `samples` consumed ones."""

    _first: bool = True
    _waited: float = 0.0

    def done(self, step: Step, aside: StepExtras, *, leaving: bool) -> None:
        """Record a step, and write a row if one is due. `leaving`: this round has no further step."""
        self._waited += step.data_seconds
        sound = math.isfinite(step.result.loss) and math.isfinite(step.result.grad_norm)
        happened = aside.validation is not None or aside.blocked_seconds > 0 or not sound
        if leaving or happened or self._first or step.number % self.config.training.log_every_steps == 0:
            if self.rank == 0:
                self._write(step, aside)
            self._first, self._waited = False, 0.0

    def _write(self, step: Step, aside: StepExtras) -> None:
        size, length, result = self.config.batch.global_size, self.config.training.sequence_length, step.result
        speed = size * length / step.seconds
        row = Progress(
            time=time.time(),
            step=step.number,
            target_steps=self.target_steps,
            consumed_samples=step.consumed_samples,
            consumed_tokens=step.consumed_tokens,
            epoch=self.passed(step.consumed_samples) / self.epoch_samples if self.epoch_samples else None,
            loss=result.loss,
            grad_norm=result.grad_norm,
            learning_rate=step.learning_rate,
            step_seconds=step.seconds,
            phase_seconds=_phases(step),
            data_seconds=self._waited,
            rank_seconds=_spread(result),
            tokens_per_second=speed,
            mfu=self._mfu(speed),
            metrics=dict(result.metrics),
            validation_loss=aside.validation.loss if aside.validation else None,
            validation_metrics=dict(aside.validation.metrics) if aside.validation else {},
            blocked_seconds=aside.blocked_seconds,
            memory_bytes=aside.memory_bytes,
        )
        append_row(self.run.metrics, row_text(row))

    def _mfu(self, tokens_per_second: float) -> float | None:
        estimate = self.config.estimate
        if estimate.flops_per_token is None or estimate.peak_flops_per_device is None:
            return None
        return tokens_per_second * estimate.flops_per_token / (estimate.peak_flops_per_device * self.world_size)


def row_text(row: Progress) -> str:
    """One line of metrics.jsonl; loss and gradient norm are always in it, as null if they were not finite."""
    none = {name for name in ("metrics", "validation_metrics") if not getattr(row, name)}
    held = row.model_dump(by_alias=True, exclude_none=True, exclude=none)
    return json.dumps({"loss": None, "gradNorm": None, **held}, allow_nan=False)


def _phases(step: Step) -> dict[str, float] | None:
    """Seconds by phase, with the time before the engine and the rest outside its phases."""
    if not step.result.phase_seconds:
        return None
    phases = {"data": step.data_seconds, **step.result.phase_seconds}
    return {**phases, "other": max(0.0, step.seconds - sum(phases.values()))}


def _spread(result: StepResult) -> RankSeconds | None:
    """None before every rank has completed a step."""
    times = result.rank_seconds
    return RankSeconds(min=min(times), median=statistics.median(times), max=max(times)) if times and all(times) else None
