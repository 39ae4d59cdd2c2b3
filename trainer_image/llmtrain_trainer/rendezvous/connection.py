"""One proved connection to the rendezvous, without torch."""

from __future__ import annotations

import os
import socket
import threading
import time

from llmtrain_trainer.config import RENDEZVOUS_SECRET
from llmtrain_trainer.rendezvous import wire

_PAUSE = 0.1


class Connection:
    """Shared by the threads of a process. Raises ConnectionError when the server is gone or does not accept this one."""

    def __init__(self, host: str, port: int, secret: bytes, seconds: float) -> None:
        """Connect, trying again for so many seconds."""
        self._where, self._secret = (host, port), secret
        self._turn = threading.Lock()
        self._socket = self._connect(time.monotonic() + seconds)

    def ask(self, operation: bytes, *fields: str | bytes) -> list[bytes]:
        """One request and its answer, as wire.py names them."""
        frame = wire.pack([operation, *(field.encode() if isinstance(field, str) else field for field in fields)])
        with self._turn:
            try:
                self._socket.sendall(frame)
                return wire.unpack(_exactly(self._socket, wire.length_of(_exactly(self._socket, 4))))
            except (OSError, EOFError, wire.WireError) as error:
                raise ConnectionError(f"Connection closed by peer {self._name()}: {error or type(error).__name__}") from error

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _connect(self, until: float) -> socket.socket:
        while True:
            try:
                made = socket.create_connection(self._where, timeout=10)
                break
            except OSError as error:
                if time.monotonic() >= until:
                    raise ConnectionError(f"{self._name()} cannot be reached: {error.strerror or error}") from error
                time.sleep(_PAUSE)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        try:
            self._prove(made)
        except (OSError, EOFError) as error:
            made.close()
            raise ConnectionError(
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
