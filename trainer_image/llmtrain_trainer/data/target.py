"""How many optimizer steps a run has, from its start or when it resumes. Pure."""

from __future__ import annotations

import math
from fractions import Fraction

from llmtrain_trainer.config.trainer import TrainerConfig
from llmtrain_trainer.data.bad_data import BadData


def target_steps(config: TrainerConfig, samples: int, *, done: int = 0, passed: int = 0) -> int:
    """maxSteps, or enough steps to see each of `samples` rows `epochs` times.

    done: steps before the resume. passed: samples of these rows that they consumed, in batches of any size.
    """
    training = config.training
    if training.max_steps is not None:
        return training.max_steps
    if training.epochs is None:
        raise BadData(
            "spec.training.maxSteps", "not set", "the length of the training is not known", "Set training.maxSteps or training.epochs"
        )
    left = math.ceil((Fraction(repr(training.epochs)) * samples - passed) / training.global_batch_size)
    return done + max(0, left)
