"""Errors that a user can fix, as lines and an exit code."""

from __future__ import annotations

from dataclasses import dataclass

FAILED, INVALID, TOO_LARGE, UNREACHABLE, NOT_ENDED, FAULT, INTERRUPTED = 1, 2, 3, 4, 5, 70, 130
"""Exit codes, documented in docs/cli.md."""


class UsageError(ValueError):
    """A command cannot do what its options ask for; the message says what to do instead."""


class ClusterError(UsageError):
    """A cluster refused a request, or does not answer."""

    def __init__(self, message: str, code: int = INVALID) -> None:
        self.code = code
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Refusal:
    """The lines for stderr, and the exit code."""

    lines: tuple[str, ...]
    exit_code: int


def refusal(error: Exception) -> Refusal | None:
    """The refusal for a known error; None for a bug of llmtrain, whose traceback is needed."""
    from llmtrain_operator.local.lock import WorkdirInUseError
    from llmtrain_operator.local.trainer import TrainerError
    from llmtrain_operator.manifest.parse import ManifestError
    from llmtrain_operator.manifest.problem import PlanError

    if isinstance(error, (ManifestError, PlanError)):
        return Refusal(tuple(str(problem) for problem in error.problems), INVALID)
    if isinstance(error, TrainerError):
        return Refusal((str(error),), error.code)
    if isinstance(error, ClusterError):
        return Refusal((str(error),), error.code)
    if isinstance(error, (UsageError, WorkdirInUseError, OSError)):
        return Refusal((str(error),), INVALID)
    return None
