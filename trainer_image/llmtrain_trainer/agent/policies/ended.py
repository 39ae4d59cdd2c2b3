"""Ranks that have ended, and those that should have."""

from __future__ import annotations

from collections.abc import Mapping

from llmtrain_trainer.agent.policies.round import Round, RoundDecision
from llmtrain_trainer.config import ExitCode

_IN_ORDER = (ExitCode.DONE, ExitCode.SAVED, ExitCode.STOPPED_UNSAVED, ExitCode.DIVERGED)


def failed(codes: Mapping[int, int]) -> dict[int, int]:
    """Those that ended with an error."""
    return {rank: code for rank, code in codes.items() if code not in _IN_ORDER}


def a_later_gang_writes(seen: Round) -> RoundDecision | None:
    """Nothing that this one still does would count."""
    return RoundDecision(action="end-fenced") if seen.fenced else None


def a_rank_failed(seen: Round) -> RoundDecision | None:
    return RoundDecision(action="fail") if failed(seen.codes) else None


def all_left_in_order(seen: Round) -> RoundDecision | None:
    return RoundDecision(action="leave") if len(seen.codes) == seen.ranks else None


def the_grace_is_over(seen: Round) -> RoundDecision | None:
    """Whoever asked for the stop wants the node."""
    return RoundDecision(action="end-unsaved") if seen.grace_over else None
