"""Which job writes its checkpoints where: of two that train into one destination each would go on from the other's.

Kept by reconcile, in memory. It is filled from the cluster when a replica begins to lead, so nothing is lost with the process.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from llmtrain_operator.kube.names import JobKey
from llmtrain_operator.life.decision import Action, Decision
from llmtrain_operator.life.observed import Observed
from llmtrain_operator.life.others import writes


class Destinations:
    """`add` puts a job into the queue: who waits for a destination is looked at as soon as it is free."""

    def __init__(self, add: Callable[[JobKey], None]) -> None:
        self._add = add
        self._writes, self._writers = dict[JobKey, str](), defaultdict[str, dict[JobKey, None]](dict)
        self._wait = defaultdict[str, dict[JobKey, None]](dict)

    def writer(self, key: JobKey, observed: Observed) -> str | None:
        """namespace/name of another job that writes where this one would."""
        there = self._writers.get(observed.job.destination or "", {})
        return next(("/".join(other) for other in there if other != key), None)

    def note(self, key: JobKey, observed: Observed, decision: Decision | None = None) -> None:
        """Remember where the job writes from now on, the decision included that is about to be carried out."""
        place = observed.job.destination
        creates = decision is not None and decision.action is Action.CREATE
        self._put(key, place if creates or writes(observed) else None)
        if place is not None and decision is not None and decision.reason == "DestinationInUse":
            self._wait[place][key] = None

    def forget(self, key: JobKey) -> None:
        """The job is gone."""
        self._put(key, None)

    def _put(self, key: JobKey, place: str | None) -> None:
        before = self._writes.pop(key, None)
        if place is not None:
            self._writes[key] = place
            self._writers[place][key] = None
        if before is not None and before != place:
            self._writers[before].pop(key)
            if not self._writers[before]:
                del self._writers[before]
                for other in self._wait.pop(before, ()):
                    self._add(other)
