"""Which job writes to which destination: two jobs with one destination would each resume from the other's checkpoints.

The data is in memory and is read from the cluster when a replica becomes leader, so nothing is lost with the process. Rights on a
destination are unknown here, so a job reserves one against other namespaces only while its pods run, or ran recently; beyond that
owner.json at the destination names the owner.
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
"""Seconds for which ended pods reserve a destination against other namespaces: a restart takes less."""

FIRST_PRESS, LONGEST_PRESS = 60.0, 3600.0
"""Seconds for which a job that released its destination does not ask for it again: first and longest delay."""


@dataclass(frozen=True, slots=True)
class DestinationWriter:
    """A job that writes to a destination. `ran` is when its pods were seen on nodes last."""

    place: str
    ran: float


class Destinations:
    """`add` puts a job into the queue: who waits for a destination is looked at as soon as it is free."""

    def __init__(self, add: Callable[[JobKey], None]) -> None:
        self._add = add
        self._writes, self._writers = dict[JobKey, DestinationWriter](), defaultdict[str, dict[JobKey, None]](dict)
        self._wait = defaultdict[str, dict[JobKey, None]](dict)
        self._waits = dict[JobKey, str]()
        self._left = dict[JobKey, tuple[int, float]]()  # how often a job left its destination, and until when it does not press

    def writer(self, key: JobKey, observed: Observed) -> str | None:
        """Another job that writes to this one's destination: by name in the same namespace; jobs of other namespaces are not named."""
        others = [other for other in self._writers.get(observed.job.destination or "", {}) if other != key]
        near = next((other for other in others if other[0] == key[0]), None)
        if near is not None:
            return "/".join(near)
        held = any(observed.now - self._writes[other].ran < LATELY for other in others)
        return "a job of another namespace" if held else None

    def contested(self, key: JobKey, observed: Observed) -> bool:
        """Whether another job waits for this one's destination, and did not release it itself just before."""
        waiting = self._wait.get(observed.job.destination or "", {})
        return any(other != key and self._left.get(other, (0, 0.0))[1] <= observed.now for other in waiting)

    def note(self, key: JobKey, observed: Observed, decision: Decision | None = None) -> None:
        """Note where the job writes from now on, including the decision that is about to be carried out."""
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
        self._put(key, DestinationWriter(place, ran) if place is not None and keeps else None)
        waits = place if decision is not None and decision.reason == "DestinationInUse" and not creates else None
        self._await(key, waits)

    def forget(self, key: JobKey) -> None:
        """Forget a job that is gone."""
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

    def _put(self, key: JobKey, writer: DestinationWriter | None) -> None:
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
