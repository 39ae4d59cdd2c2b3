"""What client and server say to each other: a proof that both know the secret, then requests and answers as length-prefixed fields.

    server -> client   MAGIC, 32 random bytes S
    client -> server   32 random bytes C, HMAC(secret, "client" S C)
    server -> client   HMAC(secret, "server" C S)
    then, each way     length of the rest (4 bytes), then fields, each with its length (4 bytes) in front

The first field of a request is its operation, that of an answer OK or ABSENT. Lengths are unsigned, big-endian.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Sequence

SHORTEST = 16
"""Characters of a secret, at least."""

MAGIC = b"llmtrain rendezvous 1\n"
NONCE = PROOF = 32
MOST = 16 << 20
"""Bytes of a frame; what ranks tell each other are addresses and ids."""

SET, GET, ADD, COMPARE, CHECK, WAIT, DELETE, COUNT, APPEND = (bytes([number]) for number in range(1, 10))
OK, ABSENT = b"+", b"-"

_LENGTH = struct.Struct("!I")


class WireError(ValueError):
    """What came is no frame of this protocol."""


def client_proof(secret: bytes, ours: bytes, theirs: bytes) -> bytes:
    """`ours`: the server's random bytes; `theirs`: the client's."""
    return hmac.new(secret, b"client" + ours + theirs, hashlib.sha256).digest()


def server_proof(secret: bytes, ours: bytes, theirs: bytes) -> bytes:
    """`ours`: the server's random bytes; `theirs`: the client's."""
    return hmac.new(secret, b"server" + theirs + ours, hashlib.sha256).digest()


def same(one: bytes, other: bytes) -> bool:
    """Compared in a time that says nothing of where they differ."""
    return hmac.compare_digest(one, other)


def pack(fields: Sequence[bytes]) -> bytes:
    """A frame. Raises WireError where it would be too long."""
    body = b"".join(_LENGTH.pack(len(field)) + field for field in fields)
    if len(body) > MOST:
        raise WireError(f"{len(body)} bytes are more than the {MOST} of a frame")
    return _LENGTH.pack(len(body)) + body


def length_of(head: bytes) -> int:
    """Bytes that follow the 4 of a frame's head. Raises WireError."""
    length: int = _LENGTH.unpack(head)[0]
    if length > MOST:
        raise WireError(f"a frame of {length} bytes")
    return length


def unpack(body: bytes) -> list[bytes]:
    """Fields of a frame's body. Raises WireError."""
    fields, at = [], 0
    while at < len(body):
        if at + _LENGTH.size > len(body):
            raise WireError("a frame that ends in a length")
        length: int = _LENGTH.unpack_from(body, at)[0]
        at += _LENGTH.size
        if at + length > len(body):
            raise WireError("a field that is longer than its frame")
        fields.append(body[at : at + length])
        at += length
    return fields
