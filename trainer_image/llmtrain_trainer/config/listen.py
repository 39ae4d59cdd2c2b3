"""Listening sockets and addresses for IPv4 and IPv6, for every server of operator, agent and local runs."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress

EVERYWHERE = "::"
"""Host to listen on: every IPv4 and IPv6 address of the machine."""

LOOPBACK = ("127.0.0.1", "::1")
_LACKING = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""Errors of a machine that lacks the address or the address family."""

_TRIES = 20


def listeners(host: str, port: int, backlog: int = 128) -> list[socket.socket]:
    """Sockets that listen on `host`, all on one port; if `port` is 0, on a port that is free on all of them.

    Host "::" (also "" and "*") means every address, and "localhost" every loopback address, of the families that the machine has. Any
    other name or address means itself. Raises OSError if no socket can listen.
    """
    if host in (EVERYWHERE, "", "*"):
        return [_everywhere(port, backlog)]
    return _on_one_port(host, port, backlog)


def bound(host: str) -> list[socket.socket]:
    """Sockets that are bound to one port of `host`, free on all of its addresses, and do not listen.

    While they are open the kernel gives the port to no socket that asks for any port. On Linux a server that asks for this one gets it.
    """
    return _on_one_port(host, 0, None)


def _on_one_port(host: str, port: int, backlog: int | None) -> list[socket.socket]:
    for _ in range(_TRIES - 1):
        try:
            return _together(host, port, backlog)
        except OSError as error:
            if port != 0 or error.errno != errno.EADDRINUSE:
                raise
    return _together(host, port, backlog)


def loopback() -> str:
    """A loopback address of this machine: 127.0.0.1, or ::1 if it has no IPv4."""
    for address in LOOPBACK:
        with suppress(OSError):
            _one(address, 0, 1).close()
            return address
    return LOOPBACK[0]


def joined(host: str, port: int) -> str:
    """host:port, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def parted(text: str) -> tuple[str, int]:
    """Host and port of host:port or [address]:port. Raises ValueError."""
    host, separator, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not separator or not port.isdecimal() or not port.isascii() or (":" in bare and bare == host):
        raise ValueError(f"{text!r} is not HOST:PORT; an IPv6 address is written [ADDRESS]:PORT.")
    return bare, int(port)


def _everywhere(port: int, backlog: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server((EVERYWHERE, port), family=socket.AF_INET6, backlog=backlog, dualstack_ipv6=True)
        except OSError as error:  # IPv6 may be compiled in and turned off
            if error.errno not in _LACKING:
                raise
    return socket.create_server(("0.0.0.0", port), backlog=backlog)


def _together(host: str, port: int, backlog: int | None) -> list[socket.socket]:
    """Sockets on every address of the host that this machine has."""
    made: list[socket.socket] = []
    missing: OSError | None = None
    for address in _addresses(host):
        try:
            made.append(_one(address, port, backlog))
            port = made[0].getsockname()[1]
        except OSError as error:
            if error.errno in _LACKING:
                missing = error
                continue
            for one in made:
                one.close()
            raise
    if not made:
        raise missing or OSError(errno.EADDRNOTAVAIL, f"{host} has no address")
    return made


def _addresses(host: str) -> list[str]:
    if host == "localhost":
        return list(LOOPBACK)
    found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _one(address: str, port: int, backlog: int | None) -> socket.socket:
    """Without a backlog it does not listen."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if backlog is not None:
        return socket.create_server((address, port), family=family, backlog=backlog)
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((address, port))
    except OSError:
        made.close()
        raise
    return made
