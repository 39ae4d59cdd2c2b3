"""What of others stands in a job's way: their names, their destinations, what the API server does not take."""

from __future__ import annotations

from dataclasses import replace

from llmtrain_operator.life import why
from llmtrain_operator.life.attempt import Gang
from llmtrain_operator.life.decision import Action, Decision
from llmtrain_operator.life.observed import Observed
from llmtrain_operator.life.policies.stopping import FAILED_GRACE, created, deletions, ended_as, stopping
from llmtrain_operator.life.times import span

YIELD_PATIENCE = 30.0
"""Seconds after which a gang without any node leaves its destination to another job that waits for it."""

INCOMPLETE_PATIENCE = 20.0
"""Seconds a gang keeps the pods it has where creating the others went wrong, without a clear no."""


def writes(observed: Observed) -> bool:
    """Whether pods of this job may write checkpoints, or will once it restarts. A job that never ran writes nothing."""
    gang = Gang(observed)
    if any(pod.node for pod in gang.may_run_now):
        return True
    spec, status = gang.job.spec, gang.job.status
    stays = spec is not None and not (spec.suspend or gang.job.deleting or ended_as(gang))
    failed = status.failure.reason != "StartupDeadline" if status.failure else status.phase == "Restarting"
    return stays and (status.progress is not None or status.checkpoint is not None or failed)


def asks_to_write(observed: Observed) -> bool:
    """Whether its pods are there and wait for nodes: they may write as soon as they have them."""
    return bool(Gang(observed).may_run_now)


def name_in_use(gang: Gang) -> Decision | None:
    """Pods of an earlier job of this name, made from another manifest: never its own. Those that were left behind are told to end."""
    if not gang.over or not gang.earlier:
        return None
    left = tuple(pod for pod in gang.earlier if pod.owner is None)
    if not left:
        message = f"Pods of an earlier job with this name are still going away, {gang.earlier[0].name} first."
        return Decision(phase="Pending", reason="NameInUse", message=message, again_in=15.0)
    message = f"Pods that an earlier job with this name left behind save and end first: {why.some_names(left)}."
    said = Decision(phase="Pending", reason="NameInUse", message=message, again_in=15.0)
    told = deletions(gang, left, None)
    return replace(said, action=Action.DELETE_PODS, delete=told) if told else said


def destination_in_use(gang: Gang) -> Decision | None:
    """Two jobs that train into one destination would each go on from the other's checkpoints."""
    if not gang.over or gang.observed.writer is None:
        return None
    message = (
        f"Waits until {gang.observed.writer} is over or suspended: it writes its checkpoints to {gang.job.destination} too, "
        "and each job would go on from the other's. Another checkpoint.destination needs no waiting."
    )
    return Decision(phase="Pending", reason="DestinationInUse", message=message, again_in=30.0)


def yields_destination(gang: Gang) -> Decision | None:
    """A job that never ran holds its destination for no longer than another can wait."""
    if gang.over or writes(gang.observed):
        return None
    waited = gang.observed.now - created(gang)
    if gang.observed.writer is None and not (gang.observed.contested and waited >= YIELD_PATIENCE):
        return None
    message = (
        f"Leaves {gang.job.destination} to {gang.observed.writer or 'another job that waits for it'}: no pod of this job had a node after "
        f"{span(waited)}. Another checkpoint.destination needs no waiting."
    )
    return stopping(gang, Decision(phase="Pending", reason="DestinationInUse", message=message, ends=gang.number), FAILED_GRACE)


def refused_lately(gang: Gang) -> Decision | None:
    """What the API server did not take is not asked of it again at once."""
    refused = gang.observed.not_created
    said = why.not_created(gang)
    if refused is None or said is None or not (gang.over or gang.missing):
        return None
    left = refused.until - gang.observed.now
    return Decision(phase="Pending" if gang.over else "Starting", reason=said[0], message=said[1], again_in=left) if left > 0 else None


def gives_back(gang: Gang) -> Decision | None:
    """A part of a gang is no gang: where the rest of its pods is not let in, the nodes of the others are free again."""
    refused, said = gang.observed.not_created, why.not_created(gang)
    if gang.over or not gang.missing or refused is None or said is None:
        return None
    if not refused.final and gang.observed.now - created(gang) < INCOMPLETE_PATIENCE:
        return None
    message = f"{said[1]} The pods that were let in end meanwhile: {len(gang.pods)} of {gang.size}."
    return stopping(gang, Decision(phase="Pending", reason=said[0], message=message, ends=gang.number), FAILED_GRACE)
