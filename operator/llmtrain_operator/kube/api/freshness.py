"""Whether the watches are alive.

The server ends each watch after WATCH_SECONDS, and kopf opens it again. A collection that was not listed or watched for much longer than
that is no longer watched. The absence of events alone proves nothing, since a quiet cluster has none.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

WATCH_SECONDS = 120
"""Seconds for which the server keeps a watch open."""

STALE_SECONDS = 360.0
"""Seconds after which a collection counts as not watched: two watches, and the longest backoff of kopf between them."""


class WatchLostError(Exception):
    """A watch is dead and is not opened again: the process must end, and a new one begins with a list."""


class Freshness:
    """Time of the last list or watch of each collection, by path."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._heard = clock, dict[str, float]()
        self._awaited: set[str] = set()

    def expect(self, collections: Iterable[str]) -> None:
        """Expect these collections to be watched from now on."""
        for collection in collections:
            self._heard[collection] = self._clock()
            self._awaited.add(collection)

    def heard(self, collection: str) -> None:
        """Note that the server answered a list or a watch."""
        if collection in self._heard:
            self._heard[collection] = self._clock()
            self._awaited.discard(collection)

    def seconds(self) -> float:
        """Seconds since the last list or watch, of the collection for which that is longest; 0 before any is expected."""
        return self._clock() - min(self._heard.values()) if self._heard else 0.0

    def stale(self) -> str | None:
        """One sentence if a watch is dead, else None."""
        if self.seconds() <= STALE_SECONDS:
            return None
        collection = min(self._heard, key=self._heard.__getitem__)
        return f"{collection} was neither listed nor watched for {self.seconds():.0f} s."

    def unready(self) -> str | None:
        """One sentence if a watch is dead or not open yet, else None."""
        awaited = sorted(self._awaited.copy())  # the watches run in another thread
        return self.stale() or (f"{awaited[0]} is not watched yet." if awaited else None)

    async def guard(self) -> None:
        """Return never; raises WatchLostError when a watch is dead."""
        while (problem := self.stale()) is None:  # noqa: ASYNC110 - it waits for time to pass
            await asyncio.sleep(STALE_SECONDS / 36)
        raise WatchLostError(problem)
