"""What Kubernetes warns of a namespace's pods, read for all jobs together. Called by observe.

The API server keeps events outside its cache and without an index: each list reads them all. While many jobs start, each would ask.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from llmtrain_operator.kube.client import Client, path_of
from llmtrain_operator.life.objects import warnings_of
from llmtrain_operator.life.observed import Warned

FRESH_SECONDS = 5.0
"""An answer serves everybody for this long; a gang that starts is looked at every ten."""


class PodWarnings:
    """By namespace: when they were asked for last, and the answer that is on its way or there."""

    def __init__(self, client: Client, clock: Callable[[], float] = time.monotonic) -> None:
        self._client, self._clock = client, clock
        self._asked: dict[str, tuple[float, asyncio.Task[Mapping[str, Warned]]]] = {}

    async def of(self, namespace: str) -> Mapping[str, Warned]:
        """The newest warning of each pod. Raises ApiError."""
        now = self._clock()
        self._asked = {name: asked for name, asked in self._asked.items() if _serves(*asked, now)}
        if namespace not in self._asked:
            self._asked[namespace] = (now, asyncio.create_task(self._read(namespace)))
        return await asyncio.shield(self._asked[namespace][1])  # who waits may be cancelled, the others still wait

    async def _read(self, namespace: str) -> Mapping[str, Warned]:
        selector = "involvedObject.kind=Pod,type=Warning"
        return warnings_of(await self._client.list(path_of("v1", "Event", namespace), fieldSelector=selector))


def _serves(since: float, answer: asyncio.Task[Mapping[str, Warned]], now: float) -> bool:
    failed = answer.done() and (answer.cancelled() or answer.exception() is not None)
    return not failed and (not answer.done() or now - since < FRESH_SECONDS)
