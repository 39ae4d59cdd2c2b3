"""Whose turn it is to be placed, where no scheduler of gangs says so: what every job is to the others. Kept by reconcile, in memory.

It is filled from the cluster when a replica begins to lead, so nothing is lost with the process but which pods fit on no node.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from llmtrain_operator.kube.names import JobKey
from llmtrain_operator.life.decision import Action, Decision
from llmtrain_operator.life.gang import Gang
from llmtrain_operator.life.observed import Observed, Place, Rival
from llmtrain_operator.life.turn import WAITING, eligible, rank, rival_of, shape_of

FIRST_BACK, LONGEST_BACK = 30.0, 300.0
"""Seconds for which jobs whose pods fit on no node go behind the others: after the first try, and at the most."""

MOST_UNFIT, MOST_LEAVING = 10_000, 1000


@dataclass(frozen=True, slots=True)
class Unfit:
    """Pods of a shape, of which no node took so many."""

    until: float
    tries: int


class Turns:
    """`add` puts a job into the queue: the first that waits is looked at as soon as another's gang is placed."""

    def __init__(self, add: Callable[[JobKey], None]) -> None:
        self._add, self._known = add, dict[JobKey, Rival]()
        self._served, self._turn = dict[str, int](), 0
        self._unfit = dict[str, dict[int, Unfit]]()  # by shape and size of the gang; 1: not even one pod
        self._whole, self._leaving = set[JobKey](), dict[JobKey, None]()
        self._now = 0.0

    def others(self, key: JobKey) -> tuple[Rival, ...]:
        """Of the other jobs those that place pods, and those that wait: all of them for a job that has the turn, else the first in line."""
        rest = [(other, rival) for other, rival in self._known.items() if other != key]
        mine = self._known.get(key)
        waiting = [one for one in rest if one[1].waiting_since is not None]
        if waiting and not (mine and mine.placing):
            waiting = [min(waiting, key=lambda one: self._rank(*one))]
        placing = [one for one in rest if one[1].placing]
        return tuple(self._placed(*one) for one in (*placing, *waiting))

    def place(self, key: JobKey, observed: Observed) -> Place:
        """Where the job stands among those that wait."""
        return self._place(key[0], shape_of(observed) if self._unfit else "", observed.job.size)

    def awaited(self, key: JobKey) -> bool:
        """Whether another job waits until this one is placed."""
        mine = self._known.get(key)
        return mine is not None and mine.placing and any(one.waiting_since is not None for one in self.others(key))

    def pressed(self, key: JobKey, observed: Observed) -> bool:
        """Whether this job may have to give way to another."""
        return self.awaited(key) and bool(eligible(Gang(replace(observed, rivals=self.others(key)))))

    def note(self, key: JobKey, observed: Observed, decision: Decision | None = None) -> None:
        """Remember what the job is from now on, the decision included that is about to be carried out."""
        rival, gang = rival_of(observed), Gang(observed)
        if observed.gang == "operator" and decision is not None:
            rival = self._about_to(key, gang, decision, rival)
        self._hold(key, gang)
        self._put(key, rival)

    def _about_to(self, key: JobKey, gang: Gang, decision: Decision, rival: Rival | None) -> Rival | None:
        """What the decision makes of the job; what its status says is from before."""
        named = Rival(key=gang.job.key, placing=False, shape=shape_of(gang.observed), size=gang.size)
        if decision.action is Action.CREATE:
            if gang.size < 2:
                return None
            self._turn += gang.over
            self._served[key[0]] = self._turn
            return replace(named, placing=True)
        if decision.reason == "GaveWay" and decision.ends is not None:
            self._fits_nowhere(gang)
        if decision.reason in WAITING:
            since = rival.waiting_since if rival else None
            return replace(named, waiting_since=gang.observed.now if since is None else since)
        ended = decision.ends is not None and decision.ends >= gang.number
        return replace(named, placing=True) if rival and rival.placing and not ended else None

    def forget(self, key: JobKey) -> None:
        """The job is gone. Its pods follow, and with each that is gone this is called again."""
        self._put(key, None)
        if key in self._whole:
            self._whole.discard(key)
            self._leaving[key] = None
        if key in self._leaving:
            self._free(key)
        while len(self._leaving) > MOST_LEAVING:
            self._leaving.pop(next(iter(self._leaving)))

    def _place(self, namespace: str, shape: str, size: int) -> Place:
        known = [one.until for least, one in self._unfit.get(shape, {}).items() if size >= least]
        return Place(after=max(known, default=0.0), served=self._served.get(namespace, 0))

    def _placed(self, key: JobKey, rival: Rival) -> Rival:
        return replace(rival, place=self._place(key[0], rival.shape, rival.size))

    def _rank(self, key: JobKey, rival: Rival) -> tuple[bool, int, float, str]:
        return rank(self._placed(key, rival), self._now)

    def _fits_nowhere(self, gang: Gang) -> None:
        """Until nodes become free, jobs alike are tried less and less often."""
        shape, least = shape_of(gang.observed), gang.size if gang.scheduled else 1
        known = self._unfit.setdefault(shape, {})
        tries = known[least].tries + 1 if least in known else 1
        known[least] = Unfit(gang.observed.now + min(LONGEST_BACK, FIRST_BACK * 2.0 ** min(tries - 1, 10)), tries)
        while len(self._unfit) > MOST_UNFIT:
            self._unfit.pop(next(iter(self._unfit)))

    def _hold(self, key: JobKey, gang: Gang) -> None:
        """Remember gangs that have all their nodes, until their pods are gone from them."""
        self._now = gang.observed.now
        if not gang.over and gang.scheduled == gang.size > 0:
            self._whole.add(key)
        elif not any(pod.node for pod in gang.may_run_now):
            self._released(key)

    def _released(self, key: JobKey) -> None:
        if key in self._whole:
            self._whole.discard(key)
            self._free(key)

    def _free(self, key: JobKey) -> None:
        """A gang that ran leaves its nodes: each job may fit anew."""
        self._unfit.clear()
        self._wake(key)

    def _put(self, key: JobKey, rival: Rival | None) -> None:
        """Remember it; where that leaves the turn to nobody, the first in line looks: all at once would ask the API server for nothing."""
        before = self._known.pop(key, None)
        if rival is not None:
            self._known[key] = rival
        gave_up = before is not None and (before.placing or before.waiting_since is not None) and rival is None
        placed = before is not None and before.placing and not (rival and rival.placing)
        begins_to_wait = rival is not None and rival.waiting_since is not None and (before is None or before.waiting_since is None)
        if gave_up or placed or begins_to_wait:
            self._wake(key)

    def _wake(self, key: JobKey) -> None:
        """Who has the turn looks, for it may have to give way; where nobody has it, the first in line does."""
        placing = [other for other, one in self._known.items() if one.placing]
        waiting = [(other, one) for other, one in self._known.items() if one.waiting_since is not None]
        first = [min(waiting, key=lambda one: self._rank(*one))[0]] if waiting else []
        for other in placing or first:
            if other != key:
                self._add(other)
