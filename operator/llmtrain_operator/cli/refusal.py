"""Errors that a user can put right, as lines and an exit code. Called by app.py."""

from __future__ import annotations

from dataclasses import dataclass

INVALID, TOO_LARGE = 2, 3


class UsageError(ValueError):
    """A command was asked for something it cannot do; the message says what to do instead."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What goes to stderr, and the exit code."""

    lines: tuple[str, ...]
    exit_code: int


def refusal(error: Exception) -> Refusal | None:
    """None: the error is ours, and its traceback is wanted."""
    from llmtrain_operator.job.parse import ManifestError
    from llmtrain_operator.job.problem import PlanError
    from llmtrain_operator.local.trainer import TrainerError

    if isinstance(error, (ManifestError, PlanError)):
        return Refusal(tuple(str(problem) for problem in error.problems), INVALID)
    if isinstance(error, TrainerError):
        return Refusal((str(error),), error.code)
    if isinstance(error, (UsageError, OSError)):
        return Refusal((str(error),), INVALID)
    return None
