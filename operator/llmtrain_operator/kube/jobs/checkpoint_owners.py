"""Which job writes to which destination: two jobs with one destination would each resume from the other's checkpoints,
or replace the other's export.

The data is in memory and is read from the cluster when a replica becomes leader, so nothing is lost with the process. Rights on a
destination are unknown here, so a job reserves one against other namespaces only while its pods run, or ran recently; beyond that
owner.json at the destination names the owner.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from llmtrain_operator.kube.names import JobKey
from llmtrain_operator.life.attempt import AttemptView
from llmtrain_operator.life.decision import Action, Decision
from llmtrain_operator.life.destinations import Contender, Destinations, clash, within
from llmtrain_operator.life.observed import Observed
from llmtrain_operator.life.policies.contention import asks_to_write, writes

LATELY = 600.0
"""Seconds for which ended pods reserve a destination against other namespaces: a restart takes less."""

FIRST_PRESS, LONGEST_PRESS = 60.0, 3600.0
"""Seconds for which a job that released its destination does not ask for it again: first and longest delay."""


@dataclass(frozen=True, slots=True)
class DestinationWriter:
    """A job that writes. `ran`: when its pods were last seen on nodes."""

    places: Destinations
    ran: float


class DestinationOwners:
    """`add` queues a job: a job that waits for a destination is reconciled as soon as that is free."""

    def __init__(self, add: Callable[[JobKey], None]) -> None:
        self._add = add
        self._writes = dict[JobKey, DestinationWriter]()
        self._around, self._at = defaultdict[str, dict[JobKey, None]](dict), defaultdict[str, dict[JobKey, None]](dict)  # by place
        self._waits = dict[JobKey, Destinations]()
        self._left = dict[
            JobKey, tuple[int, float]
        ]()  # how often a job released its destination, and until when it does not ask for it again

    def writer(self, key: JobKey, observed: Observed) -> Contender | None:
        """Another job that writes to this one's destination: by name in the same namespace; jobs of other namespaces are not named."""
        mine = observed.job.destinations
        others = [(other, found) for other in self._candidates(mine) if other != key and (found := clash(mine, self._writes[other].places))]
        for other, (field, place, because) in sorted(others, key=lambda each: each[0][0] != key[0]):
            if other[0] == key[0]:
                return Contender(name="/".join(other), field=field, place=place, because=because)
            if observed.now - self._writes[other].ran < LATELY:
                return Contender(name="a job of another namespace", field=field, place=place, because=because)
        return None

    def _candidates(self, mine: Destinations) -> dict[JobKey, None]:
        """Jobs that write to the same destinations, below them or above them."""
        found = dict[JobKey, None]()
        for place in mine.places:
            found |= self._around.get(place, {})
            for outer in within(place):
                found |= self._at.get(outer, {})
        return found

    def contested(self, key: JobKey, observed: Observed) -> bool:
        """Whether another job waits for this one's destination, and did not release it itself just before."""
        mine = observed.job.destinations
        return any(
            other != key and clash(mine, places) is not None and self._left.get(other, (0, 0.0))[1] <= observed.now
            for other, places in self._waits.items()
        )

    def note(self, key: JobKey, observed: Observed, decision: Decision | None = None) -> None:
        """Record where the job writes, with the decision that is about to be carried out."""
        mine, now = observed.job.destinations, observed.now
        creates = decision is not None and decision.action is Action.CREATE
        ended = decision is not None and decision.ends is not None and decision.reason == "DestinationInUse"
        if ended:
            tries = self._left.get(key, (0, 0.0))[0] + 1
            self._left[key] = tries, now + min(LONGEST_PRESS, FIRST_PRESS * 2.0 ** min(tries - 1, 10))
        runs = any(pod.node for pod in AttemptView(observed).may_run_now)
        if runs:
            self._left.pop(key, None)
        before = self._writes.get(key)
        ran = now if runs or creates else before.ran if before else 0.0
        keeps = creates or writes(observed) or (asks_to_write(observed) and not ended)
        self._put(key, DestinationWriter(mine, ran) if mine.places and keeps else None)
        self._await(key, mine if decision is not None and decision.reason == "DestinationInUse" and not creates else None)

    def forget(self, key: JobKey) -> None:
        """Forget a job that is gone."""
        self._left.pop(key, None)
        self._await(key, None)
        self._put(key, None)

    def _await(self, key: JobKey, places: Destinations | None) -> None:
        """Record which destination it waits for."""
        self._waits.pop(key, None)
        if places is not None:
            self._waits[key] = places

    def _put(self, key: JobKey, writer: DestinationWriter | None) -> None:
        before = self._writes.pop(key, None)
        if before is not None:
            self._unlist(key, before.places)
        if writer is not None:
            self._writes[key] = writer
            for place in writer.places.places:
                self._at[place][key] = None
                for outer in within(place):
                    self._around[outer][key] = None
        if before is not None and (writer is None or before.places != writer.places):
            for other, places in list(self._waits.items()):
                if clash(places, before.places) is not None:
                    self._add(other)

    def _unlist(self, key: JobKey, places: Destinations) -> None:
        for place in places.places:
            for listed, at in ((self._at, place), *((self._around, outer) for outer in within(place))):
                listed[at].pop(key, None)
                if not listed[at]:
                    del listed[at]
