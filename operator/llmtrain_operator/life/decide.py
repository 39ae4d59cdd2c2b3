"""Observed -> Decision: an ordered tuple of policies; the first one that returns a decision wins.

The caller guarantees what a pure function cannot: one worker at a time reads and decides a job, one lock is held from reading the rivals to
creating pods, the status is written before the action, and a pod is deleted with its uid as precondition.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from llmtrain_operator.api.job import Phase
from llmtrain_operator.life import why
from llmtrain_operator.life.attempt import Gang
from llmtrain_operator.life.blame import in_its_gang
from llmtrain_operator.life.decision import Action, Decision, stop
from llmtrain_operator.life.failures.diagnose import diagnose
from llmtrain_operator.life.failures.failure import Failure, called
from llmtrain_operator.life.ledger import active_seconds
from llmtrain_operator.life.observed import Observed
from llmtrain_operator.life.policies import restart_budget
from llmtrain_operator.life.policies.contention import destination_in_use, gives_back, name_in_use, refused_lately, yields_destination
from llmtrain_operator.life.policies.placement import gives_way, not_its_turn
from llmtrain_operator.life.policies.stopping import FAILED_GRACE, deletions, ended_as, pods_word, stopping, tidied
from llmtrain_operator.life.times import seconds_of, span

MANAGER = "llmtrain.io/operator"
"""Value of spec.managedBy that means this operator, as does an absent field."""

FINISH_PATIENCE = 600.0
"""Seconds for the other pods to end after node 0 ended normally."""

CREATION_PATIENCE = 3.0
"""Seconds after which an attempt that the status names, but that has no pod, is assumed not to be created by anyone."""

STARTING_LOOK = 10.0
"""Seconds between observations of a gang that has its nodes but does not train yet: agents and events of pods must be polled."""

Policy = Callable[[Gang], Decision | None]


def decide(observed: Observed) -> Decision:
    """The action to take now. Total: every observation has a decision."""
    gang = Gang(observed)
    return tidied(gang, next(decision for policy in POLICIES if (decision := policy(gang)) is not None))


# ---- the policies, in order ------------------------------------------------------------------------------------------------


def _going_away(gang: Gang) -> Decision | None:
    """Nothing to do: owner references delete the pods with the job."""
    if not gang.job.deleting:
        return None
    return Decision(action=Action.LEAVE_ALONE, phase=_phase(gang), reason="Deleting", message="The job is being deleted.")


def _of_another_controller(gang: Gang) -> Decision | None:
    spec = gang.job.spec
    if spec is None or spec.managed_by in (None, MANAGER):
        return None
    return Decision(action=Action.LEAVE_ALONE, phase=_phase(gang), reason="ManagedElsewhere", message=f"{spec.managed_by} runs this job.")


def _finished(gang: Gang) -> Decision | None:
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


def _complete(gang: Gang) -> Decision | None:
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


def _unreadable(gang: Gang) -> Decision | None:
    """This version cannot read the manifest. Running pods continue."""
    if gang.job.spec is not None:
        return None
    if gang.may_run_now:
        message = f"The manifest is refused; running pods continue: {gang.job.refusal}"
        return Decision(phase=_phase(gang), reason="Refused", message=message)
    return Decision(phase="Pending", reason="Refused", message=gang.job.refusal or "The manifest cannot be read.")


def _suspended(gang: Gang) -> Decision | None:
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


def _too_long(gang: Gang) -> Decision | None:
    deadline = gang.job.spec.active_deadline_seconds if gang.job.spec else None
    if deadline is None:
        return None
    active = active_seconds(gang.job.status, gang.observed.now)
    if active < deadline:
        return None
    message = f"The job was active for {span(active)}; activeDeadlineSeconds is {deadline}."
    said = Decision(phase="Failed", reason="DeadlineExceeded", message=message, ends=gang.number)
    return stopping(gang, said, None)


def _older_attempts(gang: Gang) -> Decision | None:
    """Two attempts must not run at once; if they do, the older one is ended immediately."""
    if gang.over or not gang.older:
        return None
    numbers = ", ".join(sorted({str(pod.attempt) for pod in gang.older}))
    said = Decision(phase=_phase(gang), reason="Fencing", message=f"Pods of attempt {numbers} end because attempt {gang.number} is newer.")
    return replace(said, action=Action.DELETE_PODS, delete=deletions(gang, gang.older, FAILED_GRACE))


def _failed(gang: Gang) -> Decision | None:
    """A pod is lost or has failed, so the attempt is over: gangs start and end as a whole."""
    if gang.over:
        return None
    failure = _failure(gang) or _late(gang)
    if failure is None:
        return None
    grace = None if failure.graceful else FAILED_GRACE
    over = max(gang.number, failure.stored_attempt or 0)  # a status restored from a backup may not know the latest attempt
    if refused := restart_budget.refusal(gang, failure):
        reason, message = refused
        said = Decision(phase="Failed", reason=reason, message=message, ends=over, failure=failure)
    else:
        said = Decision(phase="Restarting", reason=failure.reason, message=failure.message, ends=over, failure=failure, restart=True)
    told = stopping(gang, said, grace)
    return told if gang.may_run_now else replace(told, again_in=0.0)  # no pod is left whose end would trigger a reconcile


def _ending(gang: Gang) -> Decision | None:
    """An attempt is over, but some of its pods may still run: nothing new starts before they are gone."""
    if not gang.over or not gang.may_run_now:
        return None
    said = Decision(phase="Restarting" if gang.number else "Pending", reason="Stopping", message=why.still_ending(gang), again_in=15.0)
    return stopping(gang, replace(said, failure=_better_known(gang)), None)


def _refused(gang: Gang) -> Decision | None:
    """A manifest that cannot be planned gets no attempt. A running gang continues even if a newer plan would refuse it."""
    if not gang.over or gang.job.refusal is None:
        return None
    return Decision(phase="Pending", reason="Refused", message=gang.job.refusal)


def _waits_to_retry(gang: Gang) -> Decision | None:
    left = restart_budget.wait(gang) if gang.over else 0.0
    if left <= 0:
        return None
    return Decision(phase="Restarting", reason="Backoff", message=restart_budget.waiting_sentence(left), again_in=left)


def _being_created(gang: Gang) -> Decision | None:
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


def _starts(gang: Gang) -> Decision | None:
    if not gang.over:
        return None
    attempt = gang.next_number
    kept_for_their_logs = [pod for pod in gang.mine if pod.attempt < gang.number]
    reason, message = why.not_created(gang) or ("CreatingPods", f"Creating {pods_word(gang.size)} of attempt {attempt}.")
    return Decision(
        action=Action.CREATE,
        phase="Starting",
        reason=reason,
        message=message,
        attempt=attempt,
        create=tuple(range(gang.size)),
        delete=stop(kept_for_their_logs, None),
    )


def _completes_the_gang(gang: Gang) -> Decision | None:
    """Creation was interrupted. No pod of the attempt was ever deleted, or _failed would have decided."""
    if not gang.missing:
        return None
    creating = f"Creating {len(gang.missing)} missing of {pods_word(gang.size)} of attempt {gang.number}."
    reason, message = why.not_created(gang) or ("CreatingPods", creating)
    return Decision(action=Action.CREATE, phase="Starting", reason=reason, message=message, attempt=gang.number, create=gang.missing)


def _under_way(gang: Gang) -> Decision | None:
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

POLICIES: tuple[Policy, ...] = (
    _going_away,
    _of_another_controller,
    _finished,
    _complete,
    _unreadable,
    _suspended,
    _too_long,
    _older_attempts,
    _failed,
    _ending,
    _refused,
    _waits_to_retry,
    name_in_use,
    destination_in_use,
    gives_back,
    refused_lately,
    _being_created,
    not_its_turn,
    _starts,
    yields_destination,
    gives_way,
    _completes_the_gang,
    _under_way,
)


# ---- what the policies share -----------------------------------------------------------------------------------------------


def _phase(gang: Gang) -> Phase:
    return gang.job.status.phase or "Pending"


def _failure(gang: Gang) -> Failure | None:
    taken = [f"of index {index}" for index in gang.missing] if gang.was_whole else []
    return in_its_gang(gang, diagnose(gang.evidence(), taken, gang.observed.now))


def _better_known(gang: Gang) -> Failure | None:
    """A better failure than a recorded PeerLost: a peer reports the loss of a node before the cause is visible on that node."""
    recorded = gang.job.status.failure
    if recorded is None or recorded.reason != "PeerLost" or recorded.attempt != gang.number:
        return None
    found = _failure(gang)
    return found if found is not None and found.reason in ("NodeLost", "OutOfMemory", "Evicted") else None


def _late(gang: Gang) -> Failure | None:
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
