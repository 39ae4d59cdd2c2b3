"""The order in which gangs are placed in a cluster without a gang scheduler: one gang at a time has pods without a node.

The scheduler places single pods, so two gangs placed at once could deadlock, each holding part of its nodes. A turn that fails costs the
others little: a gang for which the scheduler finds no node gives way within seconds, and from then on every job whose pods request the same
comes after those that were not tried (kube/jobs/placement_order.py remembers that).
"""

from __future__ import annotations

from llmtrain_operator.api.job import Spec
from llmtrain_operator.life.attempt import AttemptView
from llmtrain_operator.life.decision import Decision
from llmtrain_operator.life.observed import Observed, QueuePlace, Rival
from llmtrain_operator.life.policies.stopping import FAILED_GRACE, created, ended_as, pods_word, stopping
from llmtrain_operator.life.times import seconds_of
from llmtrain_operator.manifest.uris import uris
from llmtrain_trainer.config.formats import span

PLACING_PATIENCE = 300.0
"""Seconds a gang may hold part of its nodes, or wait for the scheduler's answer, while another gang waits for its turn."""

PART_PLACED_PATIENCE = 40.0
"""Seconds for a gang that holds part of its nodes, if the scheduler reported that there are none for the rest."""

UNHEARD_PATIENCE = 30.0
"""Seconds for a gang without any node, on which the scheduler has not reported."""

UNPLACED_PATIENCE = 1.0
"""Seconds for a gang without any node, if the scheduler reported for all its pods that there is none: there may never be one."""

WAITING = ("GangOrder", "GaveWay")
"""Reasons of a job that waits for its turn."""


Rank = tuple[bool, int, float, str]


def rival_of(observed: Observed) -> Rival | None:
    """This job as a rival of others in the operator's own order; None if it neither has pods to place nor waits for its turn."""
    gang = AttemptView(observed)
    if observed.gang != "operator" or observed.job.deleting or ended_as(gang):
        return None
    placing = not gang.over and gang.size > 1 and bool(gang.pods) and gang.scheduled < gang.size
    since = _waiting_since(gang)
    if not placing and since is None:
        return None
    return Rival(key=observed.job.key, placing=placing, waiting_since=since, shape=shape_of(observed), size=gang.size)


def shape_of(observed: Observed) -> str:
    """The requirements of the pods on a node, as text: pods with equal texts fit on the same nodes."""
    spec = observed.job.spec
    return f"{observed.job.namespace} {_asked(spec)}" if spec else ""


def not_its_turn(gang: AttemptView) -> Decision | None:
    """Gangs are placed one at a time, sorted by `order`."""
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
    first_placed = f"the pods of {whose} are placed first"
    message = f"Waiting for its turn: {first_placed}, so that two gangs cannot deadlock, each holding part of its nodes."
    return Decision(phase="Queued", reason="GangOrder", message=message, again_in=30.0)


def gives_way(gang: AttemptView) -> Decision | None:
    """A gang that waits for nodes lets another one try, unless that is known not to fit either."""
    if gang.observed.gang != "operator" or gang.size < 2 or gang.scheduled == gang.size:
        return None
    waiting = eligible(gang)
    patience = _patience(gang)
    if not waiting or gang.observed.now - created(gang) < patience:
        return None
    whose = known_as(waiting[0].key, gang)
    message = f"Giving way to {whose}: {gang.scheduled} of {pods_word(gang.size)} had a node after {span(patience)}."
    return stopping(gang, Decision(phase="Queued", reason="GaveWay", message=message, ends=gang.number), FAILED_GRACE)


def eligible(gang: AttemptView) -> list[Rival]:
    """Waiting jobs that may fit where this gang does not, sorted by `order`."""
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


def known_as(key: str, gang: AttemptView) -> str:
    """Another job by name if it is in the same namespace; names of jobs in other namespaces are not shown."""
    namespace, _, name = key.partition("/")
    return name if namespace == gang.job.namespace else "a job of another namespace"


def rank(rival: Rival, now: float) -> Rank:
    """The rival's sort key, see `order`."""
    return order(rival.place, rival.waiting_since or now, rival.key, now)


def order(place: QueuePlace, since: float, key: str, now: float) -> Rank:
    """Sort key: first jobs not known to fit nowhere, then the namespace whose last turn is longest ago, then who waited longest."""
    return place.after > now, place.served, since, key


def _patience(gang: AttemptView) -> float:
    waiting = [pod for pod in gang.pods.values() if pod.node is None]
    if any(pod.nominated for pod in waiting):
        return PLACING_PATIENCE
    if waiting and all(pod.unschedulable for pod in waiting):
        return PART_PLACED_PATIENCE if gang.scheduled else UNPLACED_PATIENCE
    heard = gang.scheduled or any(pod.unschedulable for pod in waiting)
    return PLACING_PATIENCE if heard else UNHEARD_PATIENCE


def _waiting_since(gang: AttemptView) -> float | None:
    """When the job began to wait for its turn, from its condition Queued; seconds since the epoch."""
    found = next((each for each in gang.job.status.conditions if each.type == "Queued"), None)
    if found is None or found.status != "True" or found.reason not in WAITING:
        return None
    return seconds_of(found.last_transition_time)


def _asked(spec: Spec) -> str:
    """Resources, placement and volume claims."""
    claims = sorted({place.claim for place in uris(spec) if place.claim})
    return f"{spec.resources.model_dump_json(exclude={'nodes'})} {spec.scheduling.model_dump_json()} {' '.join(claims)}"
