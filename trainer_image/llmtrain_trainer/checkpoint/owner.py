"""Ownership of a destination: owner.json at its root. Two runs with one destination would each resume from the other's checkpoints and
delete them, or replace each other's exports.

Node 0 claims the destination before preparation (put if absent), renews the claim while it runs, checks it before each save, and releases
it at the end. A run that died releases nothing. Its destination can be claimed at once if its process is known to be gone, or by a later
attempt of the same job, which the operator starts after the pods of the earlier one have stopped; otherwise after the owner did not renew
its claim for some time. Clocks of two machines are never compared.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from pydantic import ValidationError

from llmtrain_trainer.checkpoint.machine import Process, here
from llmtrain_trainer.checkpoint.manifest import Written, encode
from llmtrain_trainer.checkpoint.store.errors import MissingError, StoreError
from llmtrain_trainer.checkpoint.store.store import Store

KEY = "owner.json"
RENEW_SECONDS = 10.0
PATIENCE = 45.0
"""Seconds without a renewal after which an owner counts as dead: a live one renews several times in them."""

_SETTLE = 1.0
"""Seconds after which a run that replaced a dead owner reads again: if two did so at once, the later write wins."""


class Owner(Written):
    """The content of owner.json."""

    token: str
    """Drawn by each agent."""

    job: str
    """namespace/name."""

    attempt: int
    supervised: bool = False
    """An operator starts its attempts, one after the other."""

    process: Process
    workdir: str
    beat: int = 0
    """Raised at each renewal."""


@dataclass(frozen=True, slots=True)
class Purpose:
    """Purpose of a destination, in the words of a refusal."""

    field: str
    harm: str
    """What the owner does there, and what two owners would do."""


CHECKPOINTS = Purpose("spec.checkpoint.destination", "writes its checkpoints there, and each would resume from the other's")
OUTPUT = Purpose("spec.output.destination", "writes there, and each would replace what the other exports")


class OwnedError(Exception):
    """Another live run owns the destination."""


def describe_self(namespace: str, name: str, attempt: int, *, supervised: bool, workdir: str) -> Owner:
    """This process as an owner, with a token of its own."""
    job = f"{namespace}/{name}"
    return Owner(token=uuid.uuid4().hex, job=job, attempt=attempt, supervised=supervised, process=here(), workdir=workdir)


class Claim:
    """Exists on node 0 only."""

    def __init__(
        self,
        store: Store,
        owner: Owner,
        *,
        purpose: Purpose = CHECKPOINTS,
        patience: float = PATIENCE,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`sleep` may raise, which ends a wait."""
        self._store, self._owner, self._purpose = store, owner, purpose
        self._patience, self._sleep = patience, sleep
        self._turn = threading.Lock()
        self._closed = threading.Event()
        self.lost_to: str | None = None
        """The run that took the destination from this one. Set once."""

    def take(self) -> str | None:
        """Claim the destination. Returns a sentence if it replaced a dead owner. Raises OwnedError and StoreError."""
        while True:
            if self._store.put_if_absent(KEY, encode(self._owner)):
                return None
            other = self._read()
            if other is not None and self._dead(other):
                self._store.put_bytes(KEY, encode(self._owner))
                self._sleep(_SETTLE)
                found = self._read()
                if found is not None and found.token == self._owner.token:
                    return f"{self._store.uri()} was owned by {self._name(other)}, which has ended: this run took it over."

    def keep(self) -> None:
        """Renew the claim from now on, in a thread of its own: a poll of the uploader may take as long as an upload."""
        threading.Thread(target=self._renew_for_ever, name="owner of the destination", daemon=True).start()

    def holds(self) -> bool:
        """Whether the destination still belongs to this run. Raises StoreError if the store does not answer."""
        with self._turn:
            found = self._read()
            if found is None and self.lost_to is None:  # somebody deleted it
                self._store.put_if_absent(KEY, encode(self._owner))
                found = self._read()
            if found is None or found.token != self._owner.token:
                self.lost_to = self.lost_to or (self._name(found) if found else "another run")
        return self.lost_to is None

    def renew(self) -> None:
        """Renew the ownership. Raises StoreError."""
        if self.holds():
            with self._turn:
                self._owner = self._owner.model_copy(update={"beat": self._owner.beat + 1})
                self._store.put_bytes(KEY, encode(self._owner))

    def release(self, timeout: float = 5.0) -> None:
        """Release the destination if it still belongs to this run. If the store is unreachable, the claim expires without renewals."""
        self._closed.set()
        giving = threading.Thread(target=self._give_back, name="give the destination back", daemon=True)
        giving.start()
        giving.join(timeout)

    def _give_back(self) -> None:
        with suppress(StoreError):
            if self.holds():
                self._store.delete([KEY])

    def _renew_for_ever(self) -> None:
        while not self._closed.wait(RENEW_SECONDS) and self.lost_to is None:
            with suppress(StoreError):  # who cannot reach the store cannot write there; a taker would have had to
                self.renew()

    def _read(self) -> Owner | None:
        """The owner; None if there is none, or it cannot be read: it is always written whole, so a torn one is not ours."""
        try:
            return Owner.model_validate_json(self._store.get_bytes(KEY))
        except MissingError:
            return None
        except ValidationError:
            self._store.delete([KEY])
            return None

    def _dead(self, other: Owner) -> bool:
        """True if `other` is dead; False if it released the destination meanwhile. Raises OwnedError if it is alive."""
        mine = self._owner
        same_job = mine.supervised and other.supervised and mine.job == other.job
        if same_job and mine.attempt >= other.attempt:
            return True
        if (lives := other.process.lives()) is not None:
            if lives:
                raise OwnedError(self._refusal(other, f"process {other.process.pid} of this machine"))
            return True
        for _ in range(round(self._patience)):
            self._sleep(1.0)
            seen = self._read()
            if seen is None or seen.token != other.token:
                return False
            if seen.beat != other.beat:
                raise OwnedError(self._refusal(other, f"a process on {other.process.host}"))
        return True

    def _refusal(self, other: Owner, where: str) -> str:
        place = f", {where}, in {other.workdir}" if self._may_name(other) else ""
        return (
            f"{self._purpose.field} is {self._store.uri()}: {self._name(other)}{place} {self._purpose.harm}. "
            "Wait until it ends or stop it, or give this one its own destination."
        )

    def _name(self, other: Owner) -> str:
        return f"{other.job} (attempt {other.attempt})" if self._may_name(other) else "a job of another namespace"

    def _may_name(self, other: Owner) -> bool:
        """The owner in words; jobs of another namespace are not named."""
        return other.job.partition("/")[0] == self._owner.job.partition("/")[0]
