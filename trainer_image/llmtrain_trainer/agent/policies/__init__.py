"""What an agent does about its ranks: an ordered tuple of policies, of which the first that speaks decides. Pure but for process states.

A policy looks at one Round and gives a RoundDecision, or None where it has nothing to say. The supervisor looks ten times per second and
carries the decision out.
"""

from __future__ import annotations

from collections.abc import Callable

from llmtrain_trainer.agent.policies.ended import a_later_gang_writes, a_rank_failed, all_left_in_order, the_grace_is_over
from llmtrain_trainer.agent.policies.hang import a_rank_hangs
from llmtrain_trainer.agent.policies.round import Round, RoundDecision

Policy = Callable[[Round], RoundDecision | None]

POLICIES: tuple[Policy, ...] = (a_later_gang_writes, a_rank_failed, all_left_in_order, the_grace_is_over, a_rank_hangs)


def judge(seen: Round) -> RoundDecision:
    """The decision of the first policy that has one."""
    return next((decision for policy in POLICIES if (decision := policy(seen)) is not None), RoundDecision(action="wait"))
