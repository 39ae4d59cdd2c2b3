"""The rendezvous as a torch Store, for agents and ranks."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from torch._C._distributed_c10d import Store
from torch.distributed import DistNetworkError, DistStoreError

from llmtrain_trainer.config import RENDEZVOUS_SECRET
from llmtrain_trainer.rendezvous import wire

_SLICE = 1.0
"""Seconds of one wait at the server: in between, other threads of this process have their turn."""

_PAUSE = 0.1

_OPEN: list[Store] = []
"""Every store of this process: what torch wraps one in keeps its C++ half alone, and would call into nothing."""


class SecretStore(Store):
    """One connection, shared by the threads of a process. Raises DistNetworkError when the server is gone, DistStoreError after a wait."""

    def __init__(self, host: str, port: int, secret: bytes, timeout: timedelta) -> None:
        """Connect, trying again until `timeout`, which is that of waits too."""
        super().__init__()
        self._where, self._secret, self._patience = (host, port), secret, timeout
        self._turn = threading.Lock()
        _OPEN.append(self)
        self._socket = self._connect(time.monotonic() + timeout.total_seconds())

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
        patience = (timeout or self._patience).total_seconds()
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
        frame = wire.pack([operation, *map(_bytes, fields)])
        with self._turn:
            try:
                self._socket.sendall(frame)
                return wire.unpack(_exactly(self._socket, wire.length_of(_exactly(self._socket, 4))))
            except (OSError, EOFError, wire.WireError) as error:
                raise DistNetworkError(f"Connection closed by peer {self._name()}: {error or type(error).__name__}") from error

    def _connect(self, until: float) -> socket.socket:
        while True:
            try:
                made = socket.create_connection(self._where, timeout=10)
                break
            except OSError as error:
                if time.monotonic() >= until:
                    raise DistNetworkError(f"{self._name()} cannot be reached: {error.strerror or error}") from error
                time.sleep(_PAUSE)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        try:
            self._prove(made)
        except (OSError, EOFError) as error:
            made.close()
            raise DistNetworkError(
                f"{self._name()} does not accept this one: it has another secret in {RENDEZVOUS_SECRET}, or is no rendezvous ({error})"
            ) from error
        made.settimeout(None)
        return made

    def _prove(self, made: socket.socket) -> None:
        """Raises OSError or EOFError where either side does not know the secret."""
        hello, theirs = _exactly(made, len(wire.MAGIC) + wire.NONCE), os.urandom(wire.NONCE)
        if not hello.startswith(wire.MAGIC):
            raise OSError("it says something else")
        ours = hello[len(wire.MAGIC) :]
        made.sendall(theirs + wire.client_proof(self._secret, ours, theirs))
        if not wire.same(_exactly(made, wire.PROOF), wire.server_proof(self._secret, ours, theirs)):
            raise OSError("it does not know the secret")

    def _name(self) -> str:
        return f"{self._where[0]}:{self._where[1]}"


def _exactly(connection: socket.socket, count: int) -> bytes:
    """Raises EOFError where the connection ends before."""
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(min(1 << 20, count - len(parts)))
        if not part:
            raise EOFError("it ended the connection")
        parts += part
    return bytes(parts)


def _bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)
