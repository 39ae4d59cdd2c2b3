"""The keyed work queue between events and reconcile, with the semantics of client-go. Filled by handlers and reconcile, drained by workers.

A key is queued once however often it is added; it is never worked on twice at a time; added while it is worked on, it comes again after.
One difference: when work on a key starts, its pending delayed add is dropped, since the reconcile decides anew when to look again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


def _jitter() -> float:
    return random.uniform(0.5, 1.0)


class WorkQueue(Generic[Key]):
    """`base` and `cap` are the first and the longest delay after a failure, in seconds; each failure in a row doubles it."""

    def __init__(
        self, *, base: float = 0.2, cap: float = 300.0, clock: Callable[[], float] = time.monotonic, jitter: Callable[[], float] = _jitter
    ) -> None:
        self._base, self._cap, self._clock, self._jitter = base, cap, clock, jitter
        self._ready: dict[Key, float] = {}  # key -> when it was added; a dict keeps the order
        self._due: dict[Key, float] = {}
        self._active: set[Key] = set()
        self._again: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._changed = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        """Keys that wait for a worker now."""
        return len(self._ready)

    @property
    def active(self) -> int:
        """Keys that are worked on."""
        return len(self._active)

    @property
    def age(self) -> float:
        """Seconds that the first key has waited for a worker; 0 when none waits."""
        return self._clock() - next(iter(self._ready.values())) if self._ready else 0.0

    def add(self, key: Key) -> None:
        """Look at the key as soon as a worker is free."""
        if self._closed:
            return
        if key in self._active:
            self._again.add(key)
        elif key not in self._ready:
            self._ready[key] = self._clock()
            self._changed.set()

    def add_after(self, key: Key, delay: float) -> None:
        """Look at the key in `delay` seconds; the earliest of several delays wins."""
        due = self._clock() + max(0.0, delay)
        if not self._closed and due < self._due.get(key, float("inf")):
            self._due[key] = due
            self._changed.set()

    def take(self) -> Key | None:
        """The next key, now being worked on; None when none is ready. Every key that is taken must be given to `done`."""
        now = self._clock()
        for key in sorted((key for key, due in self._due.items() if due <= now), key=self._due.__getitem__):
            del self._due[key]
            self.add(key)
        if self._closed or not self._ready:
            return None
        key = next(iter(self._ready))
        del self._ready[key]
        self._due.pop(key, None)
        self._active.add(key)
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
        """Work on the key has ended, well or not."""
        self._active.discard(key)
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
        """The next failure is the first again."""
        self._failures.pop(key, None)

    def forget(self, key: Key) -> None:
        """The thing is gone: drop what is remembered of it, but for an add that came since."""
        self._failures.pop(key, None)
        self._due.pop(key, None)

    def close(self) -> None:
        """Hand out nothing more; who waits gets None."""
        self._closed = True
        self._changed.set()

    def _until_due(self) -> float | None:
        return max(0.0, min(self._due.values()) - self._clock()) if self._due else None
