"""Policies on conflicts with other objects: names in use, destinations in use, pods that the API server refuses."""

from __future__ import annotations

from dataclasses import replace

from llmtrain_operator.life import why
from llmtrain_operator.life.attempt import AttemptView
from llmtrain_operator.life.decision import Action, Decision
from llmtrain_operator.life.observed import Observed
from llmtrain_operator.life.policies.stopping import FAILED_GRACE, created, deletions, ended_as, stopping
from llmtrain_trainer.config.formats import span

YIELD_PATIENCE = 30.0
"""Seconds after which a gang without any node releases its destination to another job that waits for it."""

INCOMPLETE_PATIENCE = 20.0
"""Seconds a gang keeps its pods if creating the others failed without a final refusal."""


def writes(observed: Observed) -> bool:
    """Whether pods of this job may write checkpoints now or after a restart. A job that never ran writes nothing."""
    gang = AttemptView(observed)
    if any(pod.node for pod in gang.may_run_now):
        return True
    spec, status = gang.job.spec, gang.job.status
    stays = spec is not None and not (spec.suspend or gang.job.deleting or ended_as(gang))
    failed = status.failure.reason != "StartupDeadline" if status.failure else status.phase == "Restarting"
    return stays and (status.progress is not None or status.checkpoint is not None or failed)


def asks_to_write(observed: Observed) -> bool:
    """Whether the job has pods that may write as soon as they have nodes."""
    return bool(AttemptView(observed).may_run_now)


def name_in_use(gang: AttemptView) -> Decision | None:
    """Pods of an earlier job with this name are in the way. Orphaned ones are told to end."""
    if not gang.over or not gang.earlier:
        return None
    left = tuple(pod for pod in gang.earlier if pod.owner is None)
    if not left:
        message = f"Pods of an earlier job with this name are still ending, {gang.earlier[0].name} among them."
        return Decision(phase="Pending", reason="NameInUse", message=message, again_in=15.0)
    message = f"Orphaned pods of an earlier job with this name save and end first: {why.some_names(left)}."
    said = Decision(phase="Pending", reason="NameInUse", message=message, again_in=15.0)
    told = deletions(gang, left, None)
    return replace(said, action=Action.DELETE_PODS, delete=told) if told else said


def destination_in_use(gang: AttemptView) -> Decision | None:
    """Two jobs with one destination would each resume from the other's checkpoints, or replace the other's export."""
    if not gang.over or gang.observed.writer is None:
        return None
    other = gang.observed.writer
    message = (
        f"Waiting until {other.name} is over or suspended: it writes to the place of spec.{other.field} {other.place} too, and "
        f"{other.because}. With another {other.field} the job starts without waiting."
    )
    return Decision(phase="Pending", reason="DestinationInUse", message=message, again_in=30.0)


def yields_destination(gang: AttemptView) -> Decision | None:
    """A job that never ran releases its destination after a while if another job waits for it."""
    if gang.over or writes(gang.observed):
        return None
    waited = gang.observed.now - created(gang)
    if gang.observed.writer is None and not (gang.observed.contested and waited >= YIELD_PATIENCE):
        return None
    other = gang.observed.writer
    own = gang.job.destinations
    places = " and ".join(own.places)
    field = other.field if other else "checkpoint.destination" if own.checkpoints else "output.destination"
    message = (
        f"Releasing {places} to {other.name if other else 'another job that waits for it'}: no pod of this job had a node "
        f"after {span(waited)}. With another {field} the job starts without waiting."
    )
    return stopping(gang, Decision(phase="Pending", reason="DestinationInUse", message=message, ends=gang.number), FAILED_GRACE)


def refused_lately(gang: AttemptView) -> Decision | None:
    """Pods that the API server refused are not created again at once."""
    refused = gang.observed.not_created
    said = why.not_created(gang)
    if refused is None or said is None or not (gang.over or gang.missing):
        return None
    left = refused.until - gang.observed.now
    return Decision(phase="Pending" if gang.over else "Starting", reason=said[0], message=said[1], again_in=left) if left > 0 else None


def gives_back(gang: AttemptView) -> Decision | None:
    """An incomplete gang cannot train: if the rest of its pods is refused, the others end and free their nodes."""
    refused, said = gang.observed.not_created, why.not_created(gang)
    if gang.over or not gang.missing or refused is None or said is None:
        return None
    if not refused.final and gang.observed.now - created(gang) < INCOMPLETE_PATIENCE:
        return None
    message = f"{said[1]} The pods that were admitted end meanwhile: {len(gang.pods)} of {gang.size}."
    return stopping(gang, Decision(phase="Pending", reason=said[0], message=message, ends=gang.number), FAILED_GRACE)
