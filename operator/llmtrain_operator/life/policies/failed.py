"""Policies on attempts that failed, and on what follows: fencing, diagnosis, waiting for pods to end, backoff."""

from __future__ import annotations

from dataclasses import replace

from llmtrain_operator.life import why
from llmtrain_operator.life.attempt import AttemptView
from llmtrain_operator.life.blame import in_its_gang
from llmtrain_operator.life.decision import Action, Decision
from llmtrain_operator.life.failures.diagnose import diagnose
from llmtrain_operator.life.failures.failure import Failure, called
from llmtrain_operator.life.policies import restart_budget
from llmtrain_operator.life.policies.stopping import FAILED_GRACE, deletions, phase_of, stopping
from llmtrain_operator.life.times import seconds_of
from llmtrain_trainer.config.formats import size


def older_attempts(gang: AttemptView) -> Decision | None:
    """Two attempts must not run at once; if they do, the older one is ended immediately."""
    if gang.over or not gang.older:
        return None
    numbers = ", ".join(sorted({str(pod.attempt) for pod in gang.older}))
    said = Decision(
        phase=phase_of(gang), reason="Fencing", message=f"Pods of attempt {numbers} end because attempt {gang.number} is newer."
    )
    return replace(said, action=Action.DELETE_PODS, delete=deletions(gang, gang.older, FAILED_GRACE))


def failed(gang: AttemptView) -> Decision | None:
    """A pod is lost or has failed, so the attempt is over: gangs start and end as a whole."""
    if gang.over:
        return None
    failure = _failure(gang) or _late(gang)
    if failure is None:
        return None
    failure = _against_the_plan(gang, failure)
    grace = None if failure.graceful else FAILED_GRACE
    over = max(gang.number, failure.stored_attempt or 0)  # a status restored from a backup may not know the latest attempt
    if refused := restart_budget.refusal(gang, failure):
        reason, message = refused
        said = Decision(phase="Failed", reason=reason, message=message, ends=over, failure=failure)
    else:
        said = Decision(phase="Restarting", reason=failure.reason, message=failure.message, ends=over, failure=failure, restart=True)
    told = stopping(gang, said, grace)
    return told if gang.may_run_now else replace(told, again_in=0.0)  # no pod is left whose end would trigger a reconcile


def ending(gang: AttemptView) -> Decision | None:
    """An attempt is over, but some of its pods may still run: nothing new starts before they are gone."""
    if not gang.over or not gang.may_run_now:
        return None
    said = Decision(phase="Restarting" if gang.number else "Pending", reason="Stopping", message=why.still_ending(gang), again_in=15.0)
    return stopping(gang, replace(said, failure=_better_known(gang)), None)


def waits_to_retry(gang: AttemptView) -> Decision | None:
    left = restart_budget.wait(gang) if gang.over else 0.0
    if left <= 0:
        return None
    return Decision(phase="Restarting", reason="Backoff", message=restart_budget.waiting_sentence(left), again_in=left)


def _failure(gang: AttemptView) -> Failure | None:
    taken = [f"of index {index}" for index in gang.missing] if gang.was_whole else []
    return in_its_gang(gang, diagnose(gang.evidence(), taken, gang.observed.now))


def _against_the_plan(gang: AttemptView, failure: Failure) -> Failure:
    """A failure for lack of memory, with what the plan expected: a person must find out which of the two is wrong."""
    memory = gang.observed.plan.memory if gang.observed.plan is not None else None
    if failure.reason != "OutOfMemory" or memory is None:
        return failure
    limit = f", and may use {size(memory.budget)}" if memory.budget else ""
    return replace(failure, message=f"{failure.message.rstrip('. ')}. By the plan a rank needs up to {size(memory.peak)}{limit}.")


def _better_known(gang: AttemptView) -> Failure | None:
    """A better failure than a recorded PeerLost: a peer reports the loss of a node before the cause is visible on that node."""
    recorded = gang.job.status.failure
    if recorded is None or recorded.reason != "PeerLost" or recorded.attempt != gang.number:
        return None
    found = _failure(gang)
    return _against_the_plan(gang, found) if found is not None and found.reason in ("NodeLost", "OutOfMemory", "Evicted") else None


def _late(gang: AttemptView) -> Failure | None:
    """The failure of an attempt whose first step was not done in time. Waiting for a queue or a node does not count, and an agent that
    cannot be reached may have trained meanwhile."""
    spec, progress = gang.job.spec, gang.job.status.progress
    since = gang.placed_since
    if spec is None or spec.startup_deadline_seconds is None or since is None:
        return None
    unheard = all(pod.running for pod in gang.pods.values()) and not gang.heard(0)
    stepped = seconds_of(progress.last_step_time) if progress else None
    trained = gang.leader is not None and gang.leader.status.progress is not None
    if unheard or trained or (stepped is not None and stepped > since) or gang.observed.now - since < spec.startup_deadline_seconds:
        return None
    state = why.not_training(gang)
    message = f"No step was done within startupDeadlineSeconds ({spec.startup_deadline_seconds} s)."
    reason = "StartupDeadline"
    found = Failure(reason=reason, message=f"{message} {state[2]}" if state else message, time=gang.observed.now)
    return called(found, reason)
