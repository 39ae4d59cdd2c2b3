"""The learning rate at each step. Pure."""

from __future__ import annotations

import math

from llmtrain_trainer.config import Schedule, Training


def learning_rate(training: Training, step: int, target_steps: int) -> float:
    """Rate of optimizer step `step` (1 to target_steps).

    It rises linearly during the warm-up and reaches the peak at the last warm-up step. The decay starts one step later and would reach
    min_ratio x peak one step after the last step, as in Hugging Face's Trainer: no step has a rate of 0.
    With cosineRestarts it returns to the peak at the first step of each cycle.
    """
    schedule = training.schedule
    peak = training.optimizer.learning_rate
    start = schedule.warm_up(target_steps)
    if step <= start:
        return peak * step / start
    if schedule.name == "wsd":
        start = max(start, target_steps - round(schedule.decay_ratio * target_steps))
    return peak * _share(schedule, _progress(step, start, target_steps))


def _progress(step: int, start: int, end: int) -> float:
    """Fraction of the decay that is complete, 0 to 1."""
    return min(1.0, max(0.0, (step - 1 - start) / max(1, end - start)))


def _share(schedule: Schedule, progress: float) -> float:
    """Rate as a fraction of the peak, after this fraction of the decay."""
    floor = schedule.min_ratio
    match schedule.name:
        case "cosine":  # Loshchilov and Hutter, 2017
            return floor + (1.0 - floor) * _wave(progress)
        case "cosineRestarts":
            return floor + (1.0 - floor) * (_wave(schedule.cycles * progress % 1.0) if progress < 1.0 else 0.0)
        case "polynomial":
            return floor + (1.0 - floor) * math.pow(1.0 - progress, schedule.power)
        case "linear" | "wsd":
            return 1.0 - (1.0 - floor) * progress
        case _:
            return 1.0


def _wave(progress: float) -> float:
    """Half a period of a cosine: from 1 to 0."""
    return 0.5 * (1.0 + math.cos(math.pi * progress))
