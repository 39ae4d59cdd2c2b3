"""Observed -> Decision: an ordered tuple of policies; the first one that returns a decision wins.

The caller guarantees what a pure function cannot: one worker at a time reads and decides a job, one lock is held from reading the rivals to
creating pods, the status is written before the action, and a pod is deleted with its uid as precondition.
"""

from __future__ import annotations

from collections.abc import Callable

from llmtrain_operator.life.attempt import AttemptView
from llmtrain_operator.life.decision import Decision
from llmtrain_operator.life.observed import Observed
from llmtrain_operator.life.policies.contention import destination_in_use, gives_back, name_in_use, refused_lately, yields_destination
from llmtrain_operator.life.policies.ended import complete, finished, going_away, of_another_controller, suspended, too_long
from llmtrain_operator.life.policies.failed import ending, failed, older_attempts, waits_to_retry
from llmtrain_operator.life.policies.placement import gives_way, not_its_turn
from llmtrain_operator.life.policies.starting import being_created, completes_the_gang, refused, starts, under_way, unreadable
from llmtrain_operator.life.policies.stopping import tidied

Policy = Callable[[AttemptView], Decision | None]


def decide(observed: Observed) -> Decision:
    """The action to take now. Total: every observation has a decision."""
    gang = AttemptView(observed)
    return tidied(gang, next(decision for policy in POLICIES if (decision := policy(gang)) is not None))


POLICIES: tuple[Policy, ...] = (
    going_away,
    of_another_controller,
    finished,
    complete,
    unreadable,
    suspended,
    too_long,
    older_attempts,
    failed,
    ending,
    refused,
    waits_to_retry,
    name_in_use,
    destination_in_use,
    gives_back,
    refused_lately,
    being_created,
    not_its_turn,
    starts,
    yields_destination,
    gives_way,
    completes_the_gang,
    under_way,
)
