"""Policies on the way to the first step: manifests that cannot be read or planned, creation of pods, and what a gang does meanwhile."""

from __future__ import annotations

from llmtrain_operator.life import why
from llmtrain_operator.life.attempt import AttemptView
from llmtrain_operator.life.decision import Action, Decision, stop
from llmtrain_operator.life.policies.stopping import phase_of, pods_word
from llmtrain_operator.life.times import seconds_of

CREATION_PATIENCE = 3.0
"""Seconds after which an attempt that the status names, but that has no pod, is assumed not to be created by anyone."""

STARTING_LOOK = 10.0
"""Seconds between observations of a gang that has its nodes but does not train yet: agents and events of pods must be polled."""


def unreadable(gang: AttemptView) -> Decision | None:
    """This version cannot read the manifest. Running pods continue."""
    if gang.job.spec is not None:
        return None
    if gang.may_run_now:
        message = f"The manifest is refused; running pods continue: {gang.job.refusal}"
        return Decision(phase=phase_of(gang), reason="Refused", message=message)
    return Decision(phase="Pending", reason="Refused", message=gang.job.refusal or "The manifest cannot be read.")


def refused(gang: AttemptView) -> Decision | None:
    """A manifest that cannot be planned gets no attempt. A running gang continues even if a newer plan would refuse it."""
    if not gang.over or gang.job.refusal is None:
        return None
    return Decision(phase="Pending", reason="Refused", message=gang.job.refusal)


def being_created(gang: AttemptView) -> Decision | None:
    """The status was written a moment ago and names an attempt without pods: another leading operator is about to create them.

    A second attempt would only have to be ended again. If the pods were refused, the status says so instead.
    """
    status = gang.job.status
    written = seconds_of(status.goodput.accounted_until) if status.goodput else None
    says = next((condition.reason for condition in status.conditions if condition.type == "Running"), None)
    refused = gang.observed.not_created is not None or says not in (None, "CreatingPods")
    begun = gang.over and gang.number > (status.ended_attempt or 0) and not refused
    if not begun or written is None:
        return None
    left = written + CREATION_PATIENCE - gang.observed.now
    if not 0 < left <= CREATION_PATIENCE:
        return None
    message = f"The pods of attempt {gang.number} are being created."
    return Decision(phase="Starting", reason="CreatingPods", message=message, again_in=left)


def starts(gang: AttemptView) -> Decision | None:
    """Create all pods of the next attempt, once the previous one was ended."""
    if not gang.over:
        return None
    attempt = gang.next_number
    kept_for_their_logs = [pod for pod in gang.mine if pod.attempt < gang.number]
    refused = why.not_created(gang)  # while that stands, the job stays Pending: nothing says that this try is let in
    reason, message = refused or ("CreatingPods", f"Creating {pods_word(gang.size)} of attempt {attempt}.")
    return Decision(
        action=Action.CREATE,
        phase="Pending" if refused else "Starting",
        reason=reason,
        message=message,
        attempt=attempt,
        create=tuple(range(gang.size)),
        delete=stop(kept_for_their_logs, None),
    )


def completes_the_gang(gang: AttemptView) -> Decision | None:
    """Creation was interrupted. No pod of the attempt was ever deleted, or failed would have decided."""
    if not gang.missing:
        return None
    creating = f"Creating {len(gang.missing)} missing of {pods_word(gang.size)} of attempt {gang.number}."
    reason, message = why.not_created(gang) or ("CreatingPods", creating)
    return Decision(action=Action.CREATE, phase="Starting", reason=reason, message=message, attempt=gang.number, create=gang.missing)


def under_way(gang: AttemptView) -> Decision | None:
    """Nothing to do while the attempt starts or trains; the decision carries what the status says."""
    if state := why.not_training(gang):
        phase, reason, message = state
        again = STARTING_LOOK if gang.scheduled == gang.size else 30.0  # scheduling a pod triggers a reconcile by itself
        return Decision(phase=phase, reason=reason, message=message, again_in=again)
    leader = gang.leader
    doing = leader.status.phase if leader else "training"
    reason, message = _DOING.get(doing, _DOING["training"])
    told = message.format(pods=pods_word(gang.size))
    if not gang.heard(0):
        told = f"{told.rstrip('.')}, as far as is known: {why.unheard(gang)}."
    return Decision(phase="Running", reason=reason, message=told, again_in=30.0)


_DOING = {
    "training": ("Training", "Training on {pods}."),
    "saving": ("Saving", "Training on {pods}; a checkpoint is being saved."),
    "exporting": ("Exporting", "Training is over; checkpoint, exports and report are being uploaded."),
    "done": ("Finishing", "Training is over; the pods end."),
    "failed": ("Failing", "An agent exited with a failure; waiting for its termination message."),
}
