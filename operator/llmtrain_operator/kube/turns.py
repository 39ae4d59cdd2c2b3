"""Whose turn it is to be placed, where no scheduler of gangs says so: what every job is to the others. Kept by reconcile, in memory.

It is filled from the cluster when a replica begins to lead, so nothing is lost with the process.
"""

from __future__ import annotations

from collections.abc import Callable

from llmtrain_operator.kube.names import JobKey
from llmtrain_operator.life.decision import Action, Decision
from llmtrain_operator.life.observed import Observed, Rival
from llmtrain_operator.life.others import rival_of

WAITING = ("GangOrder", "GaveWay")


class Turns:
    """`add` puts a job into the queue: the first that waits is looked at as soon as another's gang is placed."""

    def __init__(self, add: Callable[[JobKey], None]) -> None:
        self._add, self._known = add, dict[JobKey, Rival]()

    def others(self, key: JobKey) -> tuple[Rival, ...]:
        """The other jobs that place pods or wait."""
        return tuple(rival for other, rival in self._known.items() if other != key)

    def awaited(self, key: JobKey) -> bool:
        """Whether another job waits until this one is placed."""
        mine = self._known.get(key)
        return mine is not None and mine.placing and any(one.waiting_since is not None for one in self.others(key))

    def note(self, key: JobKey, observed: Observed, decision: Decision | None = None) -> None:
        """Remember what the job is from now on, the decision included that is about to be carried out."""
        rival = rival_of(observed)
        if observed.gang == "operator" and decision is not None:
            if decision.action is Action.CREATE:
                rival = Rival(key=observed.job.key, placing=True)
            elif decision.reason in WAITING and (rival is None or rival.waiting_since is None):
                rival = Rival(key=observed.job.key, placing=False, waiting_since=observed.now)
        self._put(key, rival)

    def forget(self, key: JobKey) -> None:
        """The job is gone."""
        self._put(key, None)

    def _put(self, key: JobKey, rival: Rival | None) -> None:
        """Remember it; where that leaves the turn to nobody, the first in line looks: all at once would ask the API server for nothing."""
        before = self._known.pop(key, None)
        if rival is not None:
            self._known[key] = rival
        gave_up = before is not None and (before.placing or before.waiting_since is not None) and rival is None
        placed = before is not None and before.placing and not (rival and rival.placing)
        if (gave_up or placed) and not any(other.placing for other in self._known.values()):
            waiting = [(one.waiting_since, one.key, other) for other, one in self._known.items() if one.waiting_since is not None]
            if waiting and (first := min(waiting)[2]) != key:
                self._add(first)
