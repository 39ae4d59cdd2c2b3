"""Reads whose answers several jobs share for some seconds: nodes, and warnings on pods.

While a thousand jobs start, each would ask for the same few nodes, and for all events of its namespace, which the API server keeps outside
its cache and without an index.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

FRESH_SECONDS = 5.0
"""Seconds for which an answer is shared; a starting gang is observed every ten seconds."""

Answer = TypeVar("Answer")


class SharedRead(Generic[Answer]):
    """`read` asks the API server for the object with a name."""

    def __init__(self, read: Callable[[str], Coroutine[Any, Any, Answer]], clock: Callable[[], float] = time.monotonic) -> None:
        self._read, self._clock = read, clock
        self._asked: dict[str, tuple[float, asyncio.Task[Answer]]] = {}  # (time, pending or complete answer)

    async def of(self, name: str) -> Answer:
        """The answer, at most FRESH_SECONDS old. Raises the errors of `read`."""
        now, asked = self._clock(), self._asked.get(name)
        if asked is None or not _serves(*asked, now):
            self._asked = {known: other for known, other in self._asked.items() if _serves(*other, now)}
            asked = self._asked[name] = (now, asyncio.create_task(self._read(name)))
        return await asyncio.shield(asked[1])  # if one caller is cancelled, the others still wait


def _serves(since: float, answer: asyncio.Task[Any], now: float) -> bool:
    failed = answer.done() and (answer.cancelled() or answer.exception() is not None)
    return not failed and (not answer.done() or 0 <= now - since < FRESH_SECONDS)
