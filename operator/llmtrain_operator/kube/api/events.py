"""Kubernetes events on an object: few, and never before the status that they speak of is written.

The API server keeps every event as an object of its own: the same sentence is one object whose count grows, and each object has a budget,
so that one that fails in a loop cannot fill the store. An event that cannot be posted is dropped, since the status says the same.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

from llmtrain_operator.kube.api.client import MANAGER, ApiError, Client, Object, path_of
from llmtrain_operator.kube.metrics.operator import OperatorMetrics

log = logging.getLogger(__name__)

QUIET_SECONDS = 600.0
"""The same sentence on the same object is not posted again within this time."""

BURST, REFILL_SECONDS = 25, 60.0
"""Burst of events per object, and seconds per further event; client-go has 25 and 300 s."""

REMEMBERED = 20_000
"""Objects and sentences kept in memory."""


class Recorder:
    """Posts events. `identity` is the name of this replica."""

    def __init__(
        self,
        client: Client,
        metrics: OperatorMetrics,
        identity: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._client, self._metrics, self._identity, self._clock, self._wall = client, metrics, identity, clock, wall
        self._posted: dict[str, float] = {}
        self._budget: dict[str, tuple[float, float]] = {}  # uid -> (tokens, when)

    async def post(self, about: Object, kind: Literal["Normal", "Warning"], reason: str, message: str) -> bool:
        """Post one event on the object; False if it was held back or refused."""
        uid = about["metadata"]["uid"]
        name = f"{about['metadata']['name']}.{hashlib.sha256('|'.join((uid, kind, reason, message)).encode()).hexdigest()[:16]}"
        now = self._clock()
        if now - self._posted.get(name, -QUIET_SECONDS) < QUIET_SECONDS or not self._spend(uid, now):
            self._metrics.events_posted.labels("held").inc()
            return False
        self._posted[name] = now
        _forget_oldest(self._posted)
        try:
            await self._write(event_of(about, name, kind, reason, message, self._identity, self._wall()))
        except ApiError as error:
            log.warning("event %s on %s was not posted: %s", reason, about["metadata"]["name"], error)
            self._metrics.events_posted.labels("failed").inc()
            return False
        self._metrics.events_posted.labels("posted").inc()
        return True

    async def _write(self, event: Object) -> None:
        """Create the event, or increase its count if it exists, such as after a restart of the operator."""
        namespace, name = event["metadata"]["namespace"], event["metadata"]["name"]
        try:
            await self._client.create(path_of("v1", "Event", namespace), event)
        except ApiError as error:
            if not error.conflict:
                raise
            path = path_of("v1", "Event", namespace, name)
            seen = await self._client.get(path) or {}
            await self._client.merge(path, {"count": int(seen.get("count") or 1) + 1, "lastTimestamp": event["lastTimestamp"]})

    def _spend(self, uid: str, now: float) -> bool:
        tokens, at = self._budget.pop(uid, (float(BURST), now))
        tokens = min(float(BURST), tokens + (now - at) / REFILL_SECONDS)
        self._budget[uid] = (tokens - 1 if tokens >= 1 else tokens, now)
        _forget_oldest(self._budget)
        return tokens >= 1


def event_of(about: Object, name: str, kind: str, reason: str, message: str, identity: str, now: float) -> Object:
    """The object; `now` in seconds since the epoch."""
    metadata = about["metadata"]
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    named = {key: metadata[key] for key in ("name", "namespace", "uid") if key in metadata}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": metadata.get("namespace", "default")},  # where events of cluster-scoped objects are
        "involvedObject": {"apiVersion": about["apiVersion"], "kind": about["kind"], **named},
        "type": kind,
        "reason": reason,
        "message": message[:1024],
        "source": {"component": MANAGER},
        "reportingComponent": "llmtrain.io/operator",
        "reportingInstance": identity,
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }


def _forget_oldest(memory: dict[str, object] | dict[str, float] | dict[str, tuple[float, float]]) -> None:
    while len(memory) > REMEMBERED:
        memory.pop(next(iter(memory)))
