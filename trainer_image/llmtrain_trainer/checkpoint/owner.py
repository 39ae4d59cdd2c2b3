"""Who writes to a destination: owner.json at its root. Two runs there would each resume from the other's checkpoints and delete them, or
replace each other's exports.

Node 0 takes it before it prepares anything (put if absent), renews it while it runs, asks before each save whether it still has it, and
gives it back at the end. A run that died gives nothing back. Its destination can be taken at once where its process is known to be gone,
or where the taker is a later attempt of the same job, which the operator starts when the pods of the earlier one have stopped; else after
the owner was watched for a while and did not renew it. Clocks of two machines are never compared.
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
"""Seconds without a renewal after which an owner counts as dead: it was renewed several times in them, or it does not run."""

_SETTLE = 1.0
"""Of two that take a dead owner's place at once, the later write wins: each looks again after this long."""


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
    """The purpose of a destination, as a refusal names it."""

    field: str
    harm: str
    """What the other does there, and what two of them would do."""


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
        """Who took the destination meanwhile. Set once."""

    def take(self) -> str | None:
        """Take the destination. Returns a sentence where a dead owner's place was taken. Raises OwnedError and StoreError."""
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
        """Renew it from now on, in a thread of its own: a poll of the uploader may take as long as an upload."""
        threading.Thread(target=self._renew_for_ever, name="owner of the destination", daemon=True).start()

    def holds(self) -> bool:
        """Whether the destination is still this run's: raises StoreError where the store does not say."""
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
        """Give it back, if it is still this run's. A store that is away keeps it until the next taker finds that nobody renews it."""
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
        """None where there is none, or one that cannot be read: a half of one is never written, so it says nothing."""
        try:
            return Owner.model_validate_json(self._store.get_bytes(KEY))
        except MissingError:
            return None
        except ValidationError:
            self._store.delete([KEY])
            return None

    def _dead(self, other: Owner) -> bool:
        """Whether `other` runs no more. Raises OwnedError where it does; False where it has given way meanwhile."""
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
        """Jobs of another namespace are not named."""
        return other.job.partition("/")[0] == self._owner.job.partition("/")[0]
