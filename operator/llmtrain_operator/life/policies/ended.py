"""Policies on jobs that are over or end: deleted, of another controller, complete, suspended, too long active."""

from __future__ import annotations

from dataclasses import replace

from llmtrain_operator.life.attempt import AttemptView
from llmtrain_operator.life.decision import Action, Decision
from llmtrain_operator.life.ledger import active_seconds
from llmtrain_operator.life.policies.stopping import ended_as, phase_of, stopping
from llmtrain_operator.life.times import seconds_of
from llmtrain_trainer.config.formats import span

MANAGER = "llmtrain.io/operator"
"""Value of spec.managedBy that means this operator, as does an absent field."""

FINISH_PATIENCE = 600.0
"""Seconds for the other pods to end after node 0 ended normally."""


def going_away(gang: AttemptView) -> Decision | None:
    """Nothing to do: owner references delete the pods with the job."""
    if not gang.job.deleting:
        return None
    return Decision(action=Action.LEAVE_ALONE, phase=phase_of(gang), reason="Deleting", message="The job is being deleted.")


def of_another_controller(gang: AttemptView) -> Decision | None:
    spec = gang.job.spec
    if spec is None or spec.managed_by in (None, MANAGER):
        return None
    return Decision(action=Action.LEAVE_ALONE, phase=phase_of(gang), reason="ManagedElsewhere", message=f"{spec.managed_by} runs this job.")


def finished(gang: AttemptView) -> Decision | None:
    """A final state is never left: pods that still run are ended, and the job is deleted after its TTL."""
    final = ended_as(gang)
    if final is None:
        return None
    status, spec, now = gang.job.status, gang.job.spec, gang.observed.now
    condition = next((found for found in status.conditions if found.type == final), None)
    said = Decision(phase=final, reason=condition.reason if condition else final, message=status.message or f"The job is {final.lower()}.")
    since = seconds_of(status.completion_time) or now
    if gang.may_run_now:
        patience = FINISH_PATIENCE if final == "Complete" else 0.0
        left = since + patience - now
        return replace(said, again_in=left) if left > 0 else stopping(gang, said, None)
    if spec is None or spec.ttl_seconds_after_finished is None:
        return said
    left = since + spec.ttl_seconds_after_finished - now
    return replace(said, again_in=left) if left > 0 else replace(said, action=Action.DELETE_JOB)


def complete(gang: AttemptView) -> Decision | None:
    """Node 0 ended normally; the other pods follow within seconds and have nothing left to save."""
    if not gang.complete:
        return None
    others = [pod for pod in gang.may_run_now if not gang.lost(pod)]
    ended = gang.pods[0].finished or gang.observed.now
    left = ended + FINISH_PATIENCE - gang.observed.now
    if others and left > 0:
        message = f"Node 0 is done; waiting for {len(others)} of {gang.size} pods to end."
        return Decision(phase="Running", reason="Finishing", message=message, again_in=left)
    verdict = next((found.verdict for found in gang.evidence() if found.pod.index == 0), None)
    message = verdict.message if verdict else "Training is complete."
    said = Decision(phase="Complete", reason="Complete", message=message, ends=gang.number)
    return stopping(gang, said, None) if gang.may_run_now else said


def suspended(gang: AttemptView) -> Decision | None:
    """The pods save a checkpoint when they are told to end; then the devices are free."""
    if gang.job.spec is None or not gang.job.spec.suspend:
        return None
    ends = None if gang.over else gang.number
    if not gang.may_run_now:
        return Decision(phase="Suspended", reason="Suspended", message="Suspended; nothing runs.", ends=ends)
    saves = "save and end" if gang.job.spec.checkpoint else "end"
    said = Decision(
        phase="Suspending", reason="Suspending", message=f"{len(gang.may_run_now)} pods {saves} before the job is suspended.", ends=ends
    )
    return stopping(gang, said, None)


def too_long(gang: AttemptView) -> Decision | None:
    """The job fails once it has been active for activeDeadlineSeconds."""
    deadline = gang.job.spec.active_deadline_seconds if gang.job.spec else None
    if deadline is None:
        return None
    active = active_seconds(gang.job.status, gang.observed.now)
    if active < deadline:
        return None
    message = f"The job was active for {span(active)}; activeDeadlineSeconds is {deadline}."
    said = Decision(phase="Failed", reason="DeadlineExceeded", message=message, ends=gang.number)
    return stopping(gang, said, None)
