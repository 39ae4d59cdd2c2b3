"""Whose turn it is to be placed, where no scheduler of gangs says so: one gang at a time has pods without a node.

The scheduler places single pods, so two gangs that are placed at once could hold a part of their nodes each, for ever. A turn costs the
others little where nothing comes of it: a gang that the scheduler finds no node for gives way within seconds, and from then on every job
whose pods ask for the same goes behind those that were not tried (kube/process/placement_order.py remembers that).
"""

from __future__ import annotations

from llmtrain_operator.api.job import Spec
from llmtrain_operator.life.attempt import Gang
from llmtrain_operator.life.decision import Decision
from llmtrain_operator.life.observed import Observed, Place, Rival
from llmtrain_operator.life.policies.stopping import FAILED_GRACE, created, ended_as, pods_word, stopping
from llmtrain_operator.life.times import seconds_of, span
from llmtrain_operator.manifest.uris import uris

PLACING_PATIENCE = 300.0
"""Seconds a gang may hold a part of its nodes, or wait for the scheduler's word, while another waits for its turn."""

PART_PLACED_PATIENCE = 40.0
"""The same for one that holds a part of its nodes, where the scheduler said of the rest that there are none."""

UNHEARD_PATIENCE = 30.0
"""The same for one without any node, of which the scheduler said nothing."""

UNPLACED_PATIENCE = 1.0
"""The same for one without any node, where the scheduler said of all its pods that there is none: what it lacks may never come."""

WAITING = ("GangOrder", "GaveWay")
"""Reasons of a job that waits for its turn."""


Rank = tuple[bool, int, float, str]


def rival_of(observed: Observed) -> Rival | None:
    """What this job is to the others under the operator's own order; None where it neither has pods to place nor waits for its turn."""
    gang = Gang(observed)
    if observed.gang != "operator" or observed.job.deleting or ended_as(gang):
        return None
    placing = not gang.over and gang.size > 1 and bool(gang.pods) and gang.scheduled < gang.size
    since = _waiting_since(gang)
    if not placing and since is None:
        return None
    return Rival(key=observed.job.key, placing=placing, waiting_since=since, shape=shape_of(observed), size=gang.size)


def shape_of(observed: Observed) -> str:
    """What the pods ask of a node, as text: where it is the same, the same nodes take them."""
    spec = observed.job.spec
    return f"{observed.job.namespace} {_asked(spec)}" if spec else ""


def not_its_turn(gang: Gang) -> Decision | None:
    """One at a time is placed, in the order of `order`."""
    if not gang.over or gang.observed.gang != "operator" or gang.size < 2:
        return None
    rivals = [rival for rival in gang.observed.rivals if rival.key != gang.job.key]
    now, since = gang.observed.now, _waiting_since(gang)
    me = Rival(key=gang.job.key, placing=False, waiting_since=now if since is None else since, place=gang.observed.place)
    waiting = [rival for rival in rivals if rival.waiting_since is not None and rank(rival, now) < rank(me, now)]
    first = next((rival for rival in rivals if rival.placing), None) or min(waiting, key=lambda rival: rank(rival, now), default=None)
    if first is None:
        return None
    whose = known_as(first.key, gang)
    message = f"Waits for its turn: the pods of {whose} are placed first, so that no two gangs hold a part of their nodes each."
    return Decision(phase="Queued", reason="GangOrder", message=message, again_in=30.0)


def gives_way(gang: Gang) -> Decision | None:
    """A gang that waits for nodes lets another try, unless it is known to fare no better."""
    if gang.observed.gang != "operator" or gang.size < 2 or gang.scheduled == gang.size:
        return None
    waiting = eligible(gang)
    patience = _patience(gang)
    if not waiting or gang.observed.now - created(gang) < patience:
        return None
    whose = known_as(waiting[0].key, gang)
    message = f"Gives way to {whose}: {gang.scheduled} of {pods_word(gang.size)} had a node after {span(patience)}."
    return stopping(gang, Decision(phase="Queued", reason="GaveWay", message=message, ends=gang.number), FAILED_GRACE)


def eligible(gang: Gang) -> list[Rival]:
    """Jobs that wait and may be placed where this gang is not, the first in line first."""
    now, shape = gang.observed.now, shape_of(gang.observed)
    found = [
        rival
        for rival in gang.observed.rivals
        if rival.waiting_since is not None
        and rival.key != gang.job.key
        and rival.place.after <= now
        and not (rival.shape == shape and shape and (gang.scheduled == 0 or rival.size >= gang.size))
    ]
    return sorted(found, key=lambda rival: rank(rival, now))


def known_as(key: str, gang: Gang) -> str:
    """Another job, by name where it is in the same namespace: the names of others are not told."""
    namespace, _, name = key.partition("/")
    return name if namespace == gang.job.namespace else "a job of another namespace"


def rank(rival: Rival, now: float) -> Rank:
    """See `order`."""
    return order(rival.place, rival.waiting_since or now, rival.key, now)


def order(place: Place, since: float, key: str, now: float) -> Rank:
    """Who goes first: pods not known to fit nowhere, the namespace that has not had a turn for longest, who waited longest."""
    return place.after > now, place.served, since, key


def _patience(gang: Gang) -> float:
    waiting = [pod for pod in gang.pods.values() if pod.node is None]
    if any(pod.nominated for pod in waiting):
        return PLACING_PATIENCE
    if waiting and all(pod.unschedulable for pod in waiting):
        return PART_PLACED_PATIENCE if gang.scheduled else UNPLACED_PATIENCE
    heard = gang.scheduled or any(pod.unschedulable for pod in waiting)
    return PLACING_PATIENCE if heard else UNHEARD_PATIENCE


def _waiting_since(gang: Gang) -> float | None:
    """Since when the job waits for its turn, as its condition Queued says."""
    found = next((each for each in gang.job.status.conditions if each.type == "Queued"), None)
    if found is None or found.status != "True" or found.reason not in WAITING:
        return None
    return seconds_of(found.last_transition_time)


def _asked(spec: Spec) -> str:
    """Resources, placement and volume claims."""
    claims = sorted({place.claim for place in uris(spec) if place.claim})
    return f"{spec.resources.model_dump_json(exclude={'nodes'})} {spec.scheduling.model_dump_json()} {' '.join(claims)}"
