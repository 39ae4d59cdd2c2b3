"""Which job writes its checkpoints where: of two that train into one destination each would go on from the other's.

Kept by reconcile, in memory. It is filled from the cluster when a replica begins to lead, so nothing is lost with the process. Nobody's
rights to a destination are known here, so a job keeps one from other namespaces only while its pods run, or did so lately; for longer the
destination itself says whose it is, to who may read it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from llmtrain_operator.kube.names import JobKey
from llmtrain_operator.life.attempt import Gang
from llmtrain_operator.life.decision import Action, Decision
from llmtrain_operator.life.observed import Observed
from llmtrain_operator.life.policies.contention import asks_to_write, writes

LATELY = 600.0
"""Seconds for which pods that ended keep a destination from other namespaces: a restart takes less."""

FIRST_PRESS, LONGEST_PRESS = 60.0, 3600.0
"""Seconds for which a job that left its destination does not ask for it back: the first time, and at the most."""


@dataclass(frozen=True, slots=True)
class Writer:
    """A job that writes to a destination. `ran` is when its pods were seen on nodes last."""

    place: str
    ran: float


class Destinations:
    """`add` puts a job into the queue: who waits for a destination is looked at as soon as it is free."""

    def __init__(self, add: Callable[[JobKey], None]) -> None:
        self._add = add
        self._writes, self._writers = dict[JobKey, Writer](), defaultdict[str, dict[JobKey, None]](dict)
        self._wait = defaultdict[str, dict[JobKey, None]](dict)
        self._waits = dict[JobKey, str]()
        self._left = dict[JobKey, tuple[int, float]]()  # how often a job left its destination, and until when it does not press

    def writer(self, key: JobKey, observed: Observed) -> str | None:
        """Another job that writes where this one would: by name in the same namespace; the names of others are not told."""
        others = [other for other in self._writers.get(observed.job.destination or "", {}) if other != key]
        near = next((other for other in others if other[0] == key[0]), None)
        if near is not None:
            return "/".join(near)
        held = any(observed.now - self._writes[other].ran < LATELY for other in others)
        return "a job of another namespace" if held else None

    def contested(self, key: JobKey, observed: Observed) -> bool:
        """Whether another job waits for this one's destination, and did not leave it itself just before."""
        waiting = self._wait.get(observed.job.destination or "", {})
        return any(other != key and self._left.get(other, (0, 0.0))[1] <= observed.now for other in waiting)

    def note(self, key: JobKey, observed: Observed, decision: Decision | None = None) -> None:
        """Remember where the job writes from now on, the decision included that is about to be carried out."""
        place, now = observed.job.destination, observed.now
        creates = decision is not None and decision.action is Action.CREATE
        ended = decision is not None and decision.ends is not None and decision.reason == "DestinationInUse"
        if ended:
            tries = self._left.get(key, (0, 0.0))[0] + 1
            self._left[key] = tries, now + min(LONGEST_PRESS, FIRST_PRESS * 2.0 ** min(tries - 1, 10))
        runs = any(pod.node for pod in Gang(observed).may_run_now)
        if runs:
            self._left.pop(key, None)
        before = self._writes.get(key)
        ran = now if runs or creates else before.ran if before else 0.0
        keeps = creates or writes(observed) or (asks_to_write(observed) and not ended)
        self._put(key, Writer(place, ran) if place is not None and keeps else None)
        waits = place if decision is not None and decision.reason == "DestinationInUse" and not creates else None
        self._await(key, waits)

    def forget(self, key: JobKey) -> None:
        """The job is gone."""
        self._left.pop(key, None)
        self._await(key, None)
        self._put(key, None)

    def _await(self, key: JobKey, place: str | None) -> None:
        """Remember what it waits for."""
        before = self._waits.pop(key, None)
        if before is not None and before != place:
            self._wait[before].pop(key, None)
            if not self._wait[before]:
                del self._wait[before]
        if place is not None:
            self._waits[key] = place
            self._wait[place][key] = None

    def _put(self, key: JobKey, writer: Writer | None) -> None:
        before = self._writes.pop(key, None)
        if writer is not None:
            self._writes[key] = writer
            self._writers[writer.place][key] = None
        if before is not None and (writer is None or before.place != writer.place):
            self._writers[before.place].pop(key)
            if not self._writers[before.place]:
                del self._writers[before.place]
                for other in list(self._wait.get(before.place, ())):
                    self._add(other)
