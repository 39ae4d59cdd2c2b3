"""The learning rate at each step. Pure."""

from __future__ import annotations

import math

from llmtrain_trainer.config import Training


def learning_rate(training: Training, step: int, target_steps: int) -> float:
    """Rate of optimizer step `step` (1 to target_steps).

    It rises linearly during the warm-up and reaches the peak at the last warm-up step. The decay starts one step later and would reach
    min_ratio x peak one step after the last step, as in Hugging Face's Trainer: no step has a rate of 0.
    """
    schedule = training.schedule
    peak = training.optimizer.learning_rate
    start = schedule.warm_up(target_steps)
    if step <= start:
        return peak * step / start
    if schedule.name == "wsd":
        start = max(start, target_steps - round(schedule.decay_ratio * target_steps))
    return peak * _share(schedule.name, _progress(step, start, target_steps), schedule.min_ratio)


def _progress(step: int, start: int, end: int) -> float:
    """Fraction of the decay that is complete, 0 to 1."""
    return min(1.0, max(0.0, (step - 1 - start) / max(1, end - start)))


def _share(name: str, progress: float, floor: float) -> float:
    """Rate as a fraction of the peak."""
    match name:
        case "cosine":  # Loshchilov and Hutter, 2017, without restarts
            return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))
        case "linear" | "wsd":
            return 1.0 - (1.0 - floor) * progress
        case _:
            return 1.0
