"""Where the gang's rendezvous is: opened by node 0, reached by all."""

from __future__ import annotations

import socket

from llmtrain_trainer.config.listen import EVERYWHERE, LOOPBACK, listeners, loopback
from llmtrain_trainer.rendezvous.server import RendezvousServer


class Hall:
    """`address` is where this process reaches it."""

    def __init__(self, host: str, port: int, secret: str) -> None:
        self.host, self.port, self.secret = host, port, secret.encode()
        self.address = (host, port)
        self._server: RendezvousServer | None = None

    def open(self) -> None:
        """On node 0, once. Raises OSError."""
        if self._server is None:
            listener = listeners(_listen_address(self.host), self.port, backlog=1024)[0]
            self.port = listener.getsockname()[1]
            self._server = RendezvousServer(listener, self.secret)
            self.address = (_own_address(listener), self.port)


def _listen_address(host: str) -> str:
    """A loopback rendezvous listens on loopback alone; any other on every address, since a pod's name may not resolve inside it yet."""
    return loopback() if host == "localhost" else host if host in LOOPBACK else ""


def _own_address(listener: socket.socket) -> str:
    """Under which this process reaches its own listener: an address that listens on all of them is reached by loopback."""
    address = str(listener.getsockname()[0])
    return loopback() if address in ("0.0.0.0", EVERYWHERE) else address
