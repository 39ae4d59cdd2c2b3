"""The rendezvous as a torch Store, for agents and ranks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from torch._C._distributed_c10d import Store
from torch.distributed import DistNetworkError, DistStoreError

from llmtrain_trainer.rendezvous import wire
from llmtrain_trainer.rendezvous.connection import Connection

_SLICE = 1.0
"""Seconds of one wait at the server: in between, other threads of this process have their turn."""

_OPEN: list[Store] = []
"""Every store of this process: what torch wraps one in keeps its C++ half alone, and would call into nothing."""


class SecretStore(Store):
    """One connection, shared by the threads of a process. Raises DistNetworkError when the server is gone, DistStoreError after a wait."""

    def __init__(self, host: str, port: int, secret: bytes, timeout: timedelta) -> None:
        """Connect, trying again until `timeout`, which is that of waits too."""
        super().__init__()
        self._where, self._secret, self._patience = (host, port), secret, timeout
        _OPEN.append(self)
        try:
            self._connection = Connection(host, port, secret, timeout.total_seconds())
        except ConnectionError as error:
            raise DistNetworkError(str(error)) from error

    def set(self, key: str, value: str | bytes) -> None:
        self._ask(wire.SET, key, _bytes(value))

    def get(self, key: str) -> bytes:
        """Waits for the key."""
        self.wait([key])
        found = self._ask(wire.GET, key)
        if found[0] != wire.OK:
            raise DistStoreError(f"{key} was deleted")
        return found[1]

    def add(self, key: str, amount: int) -> int:
        return int(self._ask(wire.ADD, key, str(amount).encode())[1])

    def append(self, key: str, value: str | bytes) -> None:
        self._ask(wire.APPEND, key, _bytes(value))

    def compare_set(self, key: str, expected: str | bytes, desired: str | bytes) -> bytes:
        return self._ask(wire.COMPARE, key, _bytes(expected), _bytes(desired))[1]

    def check(self, keys: Sequence[str]) -> bool:
        return self._ask(wire.CHECK, *keys)[0] == wire.OK

    def wait(self, keys: Sequence[str], timeout: timedelta | None = None) -> None:
        """Until all keys are set. Raises DistStoreError after the timeout."""
        patience = (self._patience if timeout is None else timeout).total_seconds()
        until = time.monotonic() + patience
        for key in keys:
            while self._ask(wire.WAIT, key, str(min(_SLICE, max(0.0, until - time.monotonic()))).encode())[0] != wire.OK:
                if time.monotonic() >= until:
                    raise DistStoreError(f"wait timeout after {patience * 1000:.0f}ms, keys: {key}")

    def delete_key(self, key: str) -> bool:
        return self._ask(wire.DELETE, key)[0] == wire.OK

    def num_keys(self) -> int:
        return int(self._ask(wire.COUNT)[1])

    def multi_get(self, keys: Sequence[str]) -> list[bytes]:
        return [self.get(key) for key in keys]

    def multi_set(self, keys: Sequence[str], values: Sequence[str | bytes]) -> None:
        for key, value in zip(keys, values, strict=True):
            self.set(key, value)

    def has_extended_api(self) -> bool:
        return True

    def clone(self) -> SecretStore:
        """Another connection to the same server."""
        return SecretStore(*self._where, self._secret, self._patience)

    def set_timeout(self, timeout: timedelta) -> None:
        self._patience = timeout

    def _ask(self, operation: bytes, *fields: str | bytes) -> list[bytes]:
        try:
            return self._connection.ask(operation, *fields)
        except ConnectionError as error:
            raise DistNetworkError(str(error)) from error


def _bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)
