"""Leader election by a Lease, so that two replicas never reconcile at once.

Time is judged by this machine's steady clock alone: a record counts as expired when it did not change for its duration, whatever the
stamps in it say. Nothing here is kopf's: its own peering freezes replicas of one priority and lets others overlap.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from llmtrain_operator.kube.api.client import ApiError, Client, Object, path_of

API = "coordination.k8s.io/v1"

LABELS = {"app.kubernetes.io/name": "llmtrain", "app.kubernetes.io/component": "operator"}
"""Labels by which `llmtrain why` finds the lease, whose name depends on the release."""


class LeaseLostError(Exception):
    """Another replica may lead now: end the process at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds, as Kubernetes' own components have them. `duration` > `deadline` > `retry`."""

    duration: float = 15.0
    """A record unchanged for this long may be taken."""

    deadline: float = 10.0
    """A leader that could not renew for this long stops leading; the difference is the margin between two leaders."""

    retry: float = 2.0
    """Seconds between two tries."""


class LeaseStore(Protocol):
    """Storage of the record. Every call may raise ApiError."""

    async def read(self, within: float) -> Object | None: ...
    async def write(self, record: Object, within: float) -> Object: ...


class ApiLease:
    """The Lease in the API server."""

    def __init__(self, client: Client, namespace: str, name: str) -> None:
        self._client, self._namespace, self._name = client, namespace, name

    async def read(self, within: float) -> Object | None:
        """The Lease, or None."""
        return await self._client.get(path_of(API, "Lease", self._namespace, self._name), within)

    async def write(self, record: Object, within: float) -> Object:
        """Create it, or replace the version it was read at."""
        metadata = {**record.get("metadata", {}), "name": self._name, "namespace": self._namespace}
        metadata["labels"] = {**(metadata.get("labels") or {}), **LABELS}
        body = {"apiVersion": API, "kind": "Lease", "metadata": metadata, "spec": record["spec"]}
        if "resourceVersion" in metadata:
            return await self._client.replace(path_of(API, "Lease", self._namespace, self._name), body, within)
        return await self._client.create(path_of(API, "Lease", self._namespace), body, within)


class Election:
    """One replica's view of the Lease."""

    def __init__(
        self,
        store: LeaseStore,
        identity: str,
        timing: Timing | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store, self._identity, self._timing = store, identity, timing or Timing()
        self._clock, self._wall, self._sleep = clock, wall, sleep
        self._record: Object | None = None
        self._seen_at = 0.0
        self._renewed_at: float | None = None

    @property
    def leads(self) -> bool:
        """Whether this replica may write now."""
        return self._renewed_at is not None and self._clock() - self._renewed_at < self._timing.deadline

    async def acquire(self) -> None:
        """Return when this replica leads."""
        while not await self._try():
            await self._sleep(self._timing.retry)

    async def hold(self) -> None:
        """Renew for ever. Raises LeaseLostError if another replica leads, or if no renewal worked within the deadline."""
        while True:
            await self._sleep(self._timing.retry)
            renewed = await self._try()
            if not renewed and (self._renewed_at is None or not self.leads):
                raise LeaseLostError(f"{self._identity} no longer holds the lease: {self._holder() or 'it could not be renewed'}")

    async def release(self) -> None:
        """Release the lease, so that the next replica leads at once. Errors are ignored, since the lease then expires."""
        if self._renewed_at is None or self._record is None:
            return
        self._renewed_at = None
        spec = {**self._record["spec"], "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": self._stamp()}
        try:
            await self._store.write({**self._record, "spec": spec}, self._timing.retry)
        except ApiError:
            return

    async def _try(self) -> bool:
        """Take or renew the lease; True if this replica holds it now."""
        return (self.leads and await self._renew()) or await self._take()

    async def _renew(self) -> bool:
        """Overwrite the version that this replica wrote: one request, refused if it was changed meanwhile."""
        started = self._clock()
        try:
            self._look(await self._store.write({**(self._record or {}), "spec": self._claim(self._identity)}, self._timing.retry))
        except ApiError:
            return False
        self._renewed_at = started
        return True

    async def _take(self) -> bool:
        """Read the record, and write it if it is free or this replica's own."""
        started = self._clock()
        try:
            self._look(await self._store.read(self._timing.retry))
            holder = self._holder()
            if holder not in ("", self._identity) and not self._expired():
                self._renewed_at = None
                return False
            if holder != self._identity:
                self._renewed_at = None
            self._look(await self._store.write({**(self._record or {}), "spec": self._claim(holder)}, self._timing.retry))
        except ApiError:
            return False
        self._renewed_at = started  # before the request: the server may have taken it any time since
        return True

    def _look(self, record: Object | None) -> None:
        """Remember the record, and when it last changed by our clock."""
        version = (record or {}).get("metadata", {}).get("resourceVersion")
        if self._record is None or record is None or version != self._record["metadata"].get("resourceVersion"):
            self._seen_at = self._clock()
        self._record = record

    def _holder(self) -> str:
        return str((self._record or {}).get("spec", {}).get("holderIdentity") or "")

    def _expired(self) -> bool:
        duration = (self._record or {}).get("spec", {}).get("leaseDurationSeconds") or self._timing.duration
        return self._clock() - self._seen_at >= float(duration)

    def _claim(self, holder: str) -> Object:
        spec = dict((self._record or {}).get("spec") or {})
        if holder != self._identity:
            spec["acquireTime"] = self._stamp()
            spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + (1 if self._record else 0)
        duration = max(1, round(self._timing.duration))
        return {**spec, "holderIdentity": self._identity, "leaseDurationSeconds": duration, "renewTime": self._stamp()}

    def _stamp(self) -> str:
        return datetime.fromtimestamp(self._wall(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
