"""Jobs that stand in each other's way: what one is to the others, and the policies by which it waits for them. Used by decide.py."""

from __future__ import annotations

from llmtrain_operator.life.decision import Decision
from llmtrain_operator.life.ends import FAILED_GRACE, created, ended_as, pods_word, stopping
from llmtrain_operator.life.gang import Gang
from llmtrain_operator.life.observed import Observed, Rival
from llmtrain_operator.life.times import seconds_of, span

PLACING_PATIENCE = 300.0
"""Seconds a gang may hold a part of its nodes while another waits for its turn."""

UNPLACED_PATIENCE = 20.0
"""The same for a gang of which no pod has a node, and of which the scheduler said why: what it lacks may never come."""


def rival_of(observed: Observed) -> Rival | None:
    """What this job is to the others under the operator's own order; None where it neither places pods nor waits for its turn."""
    gang = Gang(observed)
    if observed.gang != "operator" or observed.job.deleting or ended_as(gang):
        return None
    placing = not gang.over and gang.size > 1 and gang.scheduled < gang.size
    since = _waiting_since(gang)
    return Rival(key=observed.job.key, placing=placing, waiting_since=since) if placing or since is not None else None


def writes(observed: Observed) -> bool:
    """Whether pods of this job may write checkpoints, or will once it restarts."""
    gang = Gang(observed)
    begun = gang.number > 0 and gang.job.spec is not None and not (gang.job.spec.suspend or gang.job.deleting or ended_as(gang))
    return begun or bool(gang.may_run_now)


def name_in_use(gang: Gang) -> Decision | None:
    if not gang.over or not gang.foreign:
        return None
    message = f"Pods of an earlier job with this name are still going away, {gang.foreign[0].name} first."
    return Decision(phase="Pending", reason="NameInUse", message=message, again_in=15.0)


def destination_in_use(gang: Gang) -> Decision | None:
    """Two jobs that train into one destination would each go on from the other's checkpoints."""
    if not gang.over or gang.observed.writer is None:
        return None
    message = (
        f"Waits until {gang.observed.writer} is over or suspended: it writes its checkpoints to {gang.job.destination} too, "
        "and each job would go on from the other's."
    )
    return Decision(phase="Pending", reason="DestinationInUse", message=message, again_in=30.0)


def not_its_turn(gang: Gang) -> Decision | None:
    """Without a scheduler of gangs: one at a time is placed, in the order in which they began to wait."""
    if not gang.over or gang.observed.gang != "operator" or gang.size < 2:
        return None
    rivals = [rival for rival in gang.observed.rivals if rival.key != gang.job.key]
    since = _waiting_since(gang)
    mine = (gang.observed.now if since is None else since, gang.job.key)
    first = next((rival.key for rival in rivals if rival.placing), None) or min(
        (rival.key for rival in rivals if rival.waiting_since is not None and (rival.waiting_since, rival.key) < mine), default=None
    )
    if first is None:
        return None
    message = f"Waits for its turn: the pods of {first} are placed first, so that no two gangs hold a part of their nodes each."
    return Decision(phase="Queued", reason="GangOrder", message=message, again_in=30.0)


def gives_way(gang: Gang) -> Decision | None:
    """A gang that waits for the rest of its nodes lets another try; soon, where it has none and the scheduler knows none for it."""
    if gang.observed.gang != "operator" or gang.size < 2 or gang.scheduled == gang.size:
        return None
    waiting = [rival.key for rival in gang.observed.rivals if rival.waiting_since is not None and rival.key != gang.job.key]
    unplaced = not gang.scheduled and any(pod.unschedulable for pod in gang.pods.values())
    patience = UNPLACED_PATIENCE if unplaced else PLACING_PATIENCE
    if not waiting or gang.observed.now - created(gang) < patience:
        return None
    message = f"Gives way to {waiting[0]}: {gang.scheduled} of {pods_word(gang.size)} had a node after {span(patience)}."
    return stopping(gang, Decision(phase="Queued", reason="GaveWay", message=message, ends=gang.number), FAILED_GRACE)


def _waiting_since(gang: Gang) -> float | None:
    """Since when the job waits for its turn, as its condition Queued says."""
    found = next((each for each in gang.job.status.conditions if each.type == "Queued"), None)
    if found is None or found.status != "True" or found.reason not in ("GangOrder", "GaveWay"):
        return None
    return seconds_of(found.last_transition_time)
