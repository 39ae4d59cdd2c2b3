"""Whether the watches live. Told by the session that kopf watches through; asked by /healthz, /readyz and the process itself.

The server is asked to end each watch after WATCH_SECONDS, and kopf opens it again: a collection that nobody listed or watched anew for much
longer than that is one that nobody watches. Events alone would not tell, since a quiet cluster has none.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

WATCH_SECONDS = 120
"""How long the server keeps a watch open."""

STALE_SECONDS = 360.0
"""A collection not heard of for so long is not watched any more: two watches, and the longest refusals that kopf sits out between them."""


class WatchLostError(Exception):
    """A watch is dead, and nobody opens it again: end the process, a fresh one begins with a list."""


class Freshness:
    """When each collection, by its path, was listed or its watch opened last."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._heard = clock, dict[str, float]()
        self._awaited: set[str] = set()

    def expect(self, collections: Iterable[str]) -> None:
        """These are to be watched from now on."""
        for collection in collections:
            self._heard[collection] = self._clock()
            self._awaited.add(collection)

    def heard(self, collection: str) -> None:
        """The server answered a list or a watch."""
        if collection in self._heard:
            self._heard[collection] = self._clock()
            self._awaited.discard(collection)

    def seconds(self) -> float:
        """Since the collection that was heard of longest ago; 0 before any is expected."""
        return self._clock() - min(self._heard.values()) if self._heard else 0.0

    def stale(self) -> str | None:
        """One sentence where a watch is dead."""
        if self.seconds() <= STALE_SECONDS:
            return None
        collection = min(self._heard, key=self._heard.__getitem__)
        return f"{collection} was neither listed nor watched anew for {self.seconds():.0f} s."

    def unready(self) -> str | None:
        """One sentence where a watch is dead, or not open yet."""
        awaited = sorted(self._awaited.copy())  # the watches have a thread of their own
        return self.stale() or (f"{awaited[0]} is not watched yet." if awaited else None)

    async def guard(self) -> None:
        """Return never; raises WatchLostError when a watch is dead."""
        while (problem := self.stale()) is None:  # noqa: ASYNC110 - it is the passing of time that is waited for
            await asyncio.sleep(STALE_SECONDS / 36)
        raise WatchLostError(problem)
