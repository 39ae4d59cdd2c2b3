"""Errors that a user can put right, as lines and an exit code."""

from __future__ import annotations

from dataclasses import dataclass

FAILED, INVALID, TOO_LARGE, UNREACHABLE, NOT_ENDED, FAULT, INTERRUPTED = 1, 2, 3, 4, 5, 70, 130
"""Exit codes, as docs/cli.md tells them."""


class UsageError(ValueError):
    """A command was asked for something it cannot do; the message says what to do instead."""


class ClusterError(UsageError):
    """A cluster refused something, or does not answer."""

    def __init__(self, message: str, code: int = INVALID) -> None:
        self.code = code
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Refusal:
    """What goes to stderr, and the exit code."""

    lines: tuple[str, ...]
    exit_code: int


def refusal(error: Exception) -> Refusal | None:
    """None: the error is ours, and its traceback is wanted."""
    from llmtrain_operator.local.lock import InUseError
    from llmtrain_operator.local.trainer import TrainerError
    from llmtrain_operator.manifest.parse import ManifestError
    from llmtrain_operator.manifest.problem import PlanError

    if isinstance(error, (ManifestError, PlanError)):
        return Refusal(tuple(str(problem) for problem in error.problems), INVALID)
    if isinstance(error, TrainerError):
        return Refusal((str(error),), error.code)
    if isinstance(error, ClusterError):
        return Refusal((str(error),), error.code)
    if isinstance(error, (UsageError, InUseError, OSError)):
        return Refusal((str(error),), INVALID)
    return None
