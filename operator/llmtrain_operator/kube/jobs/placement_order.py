"""The order in which gangs are placed in a cluster without a gang scheduler, in memory.

A replica that becomes leader rebuilds it from the cluster; only the knowledge of which pods fit on no node is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from llmtrain_operator.kube.names import JobKey
from llmtrain_operator.life.attempt import AttemptView
from llmtrain_operator.life.decision import Action, Decision
from llmtrain_operator.life.observed import Observed, QueuePlace, Rival
from llmtrain_operator.life.policies.placement import WAITING, Rank, eligible, order, rival_of, shape_of

FIRST_BACK, LONGEST_BACK = 30.0, 300.0
"""Seconds for which jobs whose pods fit on no node come after the others: first and longest delay."""

MOST_UNFIT, MOST_LEAVING = 10_000, 1000


@dataclass(frozen=True, slots=True)
class Unfit:
    """Requirements of a pod, and the number of such pods that the nodes could not take."""

    made: float
    until: float
    tries: int


@dataclass(frozen=True, slots=True)
class HeldNodes:
    """A gang that holds all or part of its nodes."""

    since: float
    too_few: tuple[str, int] | None
    """Requirements of its pods and its size, if it holds a part."""


class Turns:
    """`add` queues a job: the first that waits is reconciled as soon as the gang before it is placed."""

    def __init__(self, add: Callable[[JobKey], None]) -> None:
        self._add, self._known = add, dict[JobKey, Rival]()
        self._served, self._turn = dict[str, int](), 0
        self._unfit = dict[str, dict[int, Unfit]]()  # by shape and size of the gang; 1: not even one pod
        self._holds, self._leaving = dict[JobKey, HeldNodes](), dict[JobKey, HeldNodes]()
        self._now = 0.0

    def others(self, key: JobKey) -> tuple[Rival, ...]:
        """Other jobs that place pods or wait: all that wait for the job whose turn it is, only the first in line for others."""
        rest = [(other, rival) for other, rival in self._known.items() if other != key]
        mine = self._known.get(key)
        waiting = [one for one in rest if one[1].waiting_since is not None]
        if waiting and not (mine and mine.placing):
            waiting = [min(waiting, key=lambda one: self._rank(*one))]
        placing = [one for one in rest if one[1].placing]
        return tuple(self._placed(*one) for one in (*placing, *waiting))

    def place(self, key: JobKey, observed: Observed) -> QueuePlace:
        """The job's place among those that wait."""
        return self._place(key[0], shape_of(observed) if self._unfit else "", observed.job.size)

    def awaited(self, key: JobKey) -> bool:
        """Whether another job waits until this one is placed."""
        mine = self._known.get(key)
        return mine is not None and mine.placing and any(one.waiting_since is not None for one in self.others(key))

    def pressed(self, key: JobKey, observed: Observed) -> bool:
        """Whether this job may have to give way to another."""
        return self.awaited(key) and bool(eligible(AttemptView(replace(observed, rivals=self.others(key)))))

    def note(self, key: JobKey, observed: Observed, decision: Decision | None = None) -> None:
        """Record the job's role, with the decision that is about to be carried out."""
        rival, gang = rival_of(observed), AttemptView(observed)
        if observed.gang == "operator" and decision is not None:
            rival = self._about_to(key, gang, decision, rival)
        self._hold(key, gang)
        self._put(key, rival)

    def _about_to(self, key: JobKey, gang: AttemptView, decision: Decision, rival: Rival | None) -> Rival | None:
        """The job's role after the decision; its status is older."""
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
        """Forget a job that is gone. Called again for each of its pods that is gone."""
        self._put(key, None)
        if key in self._holds:
            self._leaving[key] = self._holds.pop(key)
        if key in self._leaving:
            self._free(key, self._leaving[key])
        while len(self._leaving) > MOST_LEAVING:
            self._leaving.pop(next(iter(self._leaving)))

    def _place(self, namespace: str, shape: str, size: int) -> QueuePlace:
        served, known = self._served.get(namespace, 0), self._unfit.get(shape) if self._unfit else None
        if known is None:
            return QueuePlace(served=served)
        return QueuePlace(after=max((one.until for least, one in known.items() if size >= least), default=0.0), served=served)

    def _placed(self, key: JobKey, rival: Rival) -> Rival:
        return replace(rival, place=self._place(key[0], rival.shape, rival.size))

    def _rank(self, key: JobKey, rival: Rival) -> Rank:
        return order(self._place(key[0], rival.shape, rival.size), rival.waiting_since or self._now, rival.key, self._now)

    def _fits_nowhere(self, gang: AttemptView) -> None:
        """The gang fits on no nodes: until some are free, jobs with the same requirements are tried less and less often."""
        shape, least = self._unfit_of(gang)
        known = self._unfit.setdefault(shape, {})
        tries = known[least].tries + 1 if least in known else 1
        now = gang.observed.now
        known[least] = Unfit(now, now + min(LONGEST_BACK, FIRST_BACK * 2.0 ** min(tries - 1, 10)), tries)
        while len(self._unfit) > MOST_UNFIT:
            self._unfit.pop(next(iter(self._unfit)))

    def _unfit_of(self, gang: AttemptView) -> tuple[str, int]:
        """Requirements, and the smallest number of pods that does not fit; 1: not even one pod fits."""
        return shape_of(gang.observed), gang.size if gang.scheduled else 1

    def _hold(self, key: JobKey, gang: AttemptView) -> None:
        """Record a gang that holds nodes, until its pods have left them."""
        self._now = gang.observed.now
        if not gang.over and gang.scheduled:
            since = self._holds[key].since if key in self._holds else self._now
            self._holds[key] = HeldNodes(since, self._unfit_of(gang) if gang.scheduled < gang.size else None)
        elif key in self._holds and not any(pod.node for pod in gang.may_run_now):
            self._free(key, self._holds.pop(key))

    def _free(self, key: JobKey, held: HeldNodes) -> None:
        """Nodes are free: jobs that did not fit may fit now, except those with the requirements of a gang that had too few nodes."""
        shape, size = held.too_few or ("", 0)
        for other, known in list(self._unfit.items()):
            kept = {least: one for least, one in known.items() if one.made < held.since or (other == shape and least >= size)}
            self._unfit[other] = kept
            if not kept:
                del self._unfit[other]
        self._wake(key)

    def _put(self, key: JobKey, rival: Rival | None) -> None:
        """Record the role. If nobody has the turn now, reconcile the first in line: reconciling all of them would be wasted requests."""
        before = self._known.pop(key, None)
        if rival is not None:
            self._known[key] = rival
        gave_up = before is not None and (before.placing or before.waiting_since is not None) and rival is None
        placed = before is not None and before.placing and not (rival and rival.placing)
        begins_to_wait = rival is not None and rival.waiting_since is not None and (before is None or before.waiting_since is None)
        if gave_up or placed or begins_to_wait:
            self._wake(key)

    def _wake(self, key: JobKey) -> None:
        """Reconcile the job whose turn it is, since it may have to give way; if there is none, the first in line."""
        looks = [other for other, one in self._known.items() if one.placing]
        if not looks:
            waiting = [(other, one) for other, one in self._known.items() if one.waiting_since is not None]
            looks = [min(waiting, key=lambda one: self._rank(*one))[0]] if waiting else []
        for other in looks:
            if other != key:
                self._add(other)
