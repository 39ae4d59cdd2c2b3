"""The keyed work queue between events and reconcile, with the semantics of client-go.

A key is queued once however often it is added, is never processed twice concurrently, and is queued again if it is added while it is
processed. There are two differences: when work on a key starts, its pending delayed add is dropped, since the reconcile decides again when
to come back; and keys added at once come before delayed ones, so that a new job does not wait for the periodic checks of a thousand others.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

SOON, SHARE, LONGEST_SOON = 0.2, 2.0, 3.0
"""Delay of `add_soon`: minimum in seconds, multiple of the key's last processing time, maximum in seconds."""

SHARE_OF_DUE = 4
"""One of so many keys is taken from the delayed ones, however many were added at once."""


def _jitter() -> float:
    return random.uniform(0.5, 1.0)


class WorkQueue(Generic[Key]):
    """`base` and `cap` are the first and the longest delay after a failure, in seconds; each failure in a row doubles it."""

    def __init__(
        self, *, base: float = 0.2, cap: float = 300.0, clock: Callable[[], float] = time.monotonic, jitter: Callable[[], float] = _jitter
    ) -> None:
        self._base, self._cap, self._clock, self._jitter = base, cap, clock, jitter
        self._ready: dict[Key, float] = {}  # key -> when it was added; a dict keeps the order
        self._later: dict[Key, float] = {}  # the same of keys that were due
        self._taken = 0
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []  # of _due, the earliest first; an entry that _due does not confirm is void
        self._numbers = itertools.count()
        self._active: dict[Key, float] = {}  # key -> when work on it started
        self._took: dict[Key, float] = {}
        self._again: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._changed = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        """Number of keys that wait for a worker now."""
        return len(self._ready) + len(self._later)

    @property
    def active(self) -> int:
        """Number of keys that are being processed."""
        return len(self._active)

    @property
    def age(self) -> float:
        """Seconds that the first key has waited for a worker; 0 when none waits."""
        first = [next(iter(line.values())) for line in (self._ready, self._later) if line]
        return self._clock() - min(first) if first else 0.0

    def add(self, key: Key) -> None:
        """Process the key as soon as a worker is free."""
        if self._closed:
            return
        if key in self._active:
            self._again.add(key)
        elif key not in self._ready:
            self._ready[key] = self._later.pop(key, self._clock())
            self._changed.set()

    def add_after(self, key: Key, delay: float) -> None:
        """Process the key in `delay` seconds; the earliest of several delays wins."""
        due = self._clock() + max(0.0, delay)
        if not self._closed and due < self._due.get(key, float("inf")):
            self._due[key] = due
            heapq.heappush(self._heap, (due, next(self._numbers), key))
            if len(self._heap) > 2 * len(self._due) + 64:  # most of it void
                self._heap = [(due, next(self._numbers), key) for key, due in self._due.items()]
                heapq.heapify(self._heap)
            self._changed.set()

    def add_soon(self, key: Key) -> None:
        """Process the key after a short delay, so that several events cause one run; the delay grows with the key's processing time."""
        self.add_after(key, max(SOON, min(LONGEST_SOON, SHARE * self._took.get(key, 0.0))))

    def take(self) -> Key | None:
        """The next key, now being worked on; None when none is ready. Every key that is taken must be given to `done`."""
        now = self._clock()
        while (due := self._first_due()) is not None and due <= now:
            key = heapq.heappop(self._heap)[2]
            del self._due[key]
            if key in self._active:
                self._again.add(key)
            elif key not in self._ready:
                self._later.setdefault(key, now)
        if self._closed or not (self._ready or self._later):
            return None
        line = self._line()
        key = next(iter(line))
        del line[key]
        self._due.pop(key, None)
        self._active[key] = now
        return key

    async def get(self) -> Key | None:
        """Wait for the next key; None when the queue is closed."""
        while not self._closed:
            self._changed.clear()
            if (key := self.take()) is not None:
                return key
            try:
                async with asyncio.timeout(self._until_due()):
                    await self._changed.wait()
            except TimeoutError:
                continue
        self._changed.set()  # wakes the next worker that waits
        return None

    def done(self, key: Key) -> None:
        """Note that work on the key has ended, successfully or not."""
        started = self._active.pop(key, None)
        if started is not None and key in self._due:  # it stays known
            self._took[key] = self._clock() - started
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def failed(self, key: Key) -> float:
        """Try again later, twice as late with each failure in a row; returns the delay in seconds."""
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        delay = min(self._cap, self._base * 2.0 ** min(count, 60)) * self._jitter()
        self.add_after(key, delay)
        return delay

    def succeeded(self, key: Key) -> None:
        """Reset the backoff of the key."""
        self._failures.pop(key, None)

    def forget(self, key: Key) -> None:
        """Forget a key whose object is gone, except for an add since then."""
        for memory in (self._failures, self._due, self._took):
            memory.pop(key, None)

    def close(self) -> None:
        """Close the queue; waiting workers get None."""
        self._closed = True
        self._changed.set()

    def _line(self) -> dict[Key, float]:
        """Where the next key comes from: of four one is due, where there are both."""
        self._taken += 1
        lines = (self._later, self._ready) if self._taken % SHARE_OF_DUE == 0 else (self._ready, self._later)
        return lines[0] or lines[1]

    def _until_due(self) -> float | None:
        due = self._first_due()
        return None if due is None else max(0.0, due - self._clock())

    def _first_due(self) -> float | None:
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None
