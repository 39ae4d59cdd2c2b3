"""Frames and proofs, byte by byte: nodes of two versions must not misread each other."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtrain_trainer.rendezvous import wire


def test_a_frame_is_its_length_and_each_field_behind_its_own() -> None:
    assert wire.pack([b"\x01", b"key", b""]) == bytes.fromhex("00000010" + "00000001" + "01" + "00000003") + b"key" + bytes(4)
    assert wire.pack([]) == bytes(4)


def test_operations_keep_their_numbers() -> None:
    names = ["SET", "GET", "ADD", "COMPARE", "CHECK", "WAIT", "DELETE", "COUNT", "APPEND"]
    assert [getattr(wire, name) for name in names] == [bytes([number]) for number in range(1, 10)]
    assert (wire.OK, wire.ABSENT, wire.MAGIC, wire.NONCE, wire.PROOF) == (b"+", b"-", b"llmtrain rendezvous 1\n", 32, 32)


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_fields_are_read_as_they_were_packed(fields: list[bytes]) -> None:
    frame = wire.pack(fields)
    assert wire.length_of(frame[:4]) == len(frame) - 4 and wire.unpack(frame[4:]) == fields


@given(st.lists(st.binary(min_size=1, max_size=10), min_size=1, max_size=4), st.data())
def test_a_frame_cut_anywhere_is_refused_or_ends_at_a_field(fields: list[bytes], data: st.DataObject) -> None:
    body = wire.pack(fields)[4:]
    cut = body[: data.draw(st.integers(0, len(body) - 1))]
    try:
        found = wire.unpack(cut)
    except wire.WireError:
        return
    assert found == fields[: len(found)] and len(found) < len(fields)


@given(st.binary(max_size=60))
def test_noise_is_fields_or_an_error_and_never_more_than_it_is(body: bytes) -> None:
    try:
        fields = wire.unpack(body)
    except wire.WireError:
        return
    assert wire.pack(fields)[4:] == body


def test_the_longest_frame_is_taken_and_one_byte_more_is_not() -> None:
    assert wire.length_of(wire.MOST.to_bytes(4, "big")) == wire.MOST
    with pytest.raises(wire.WireError):
        wire.length_of((wire.MOST + 1).to_bytes(4, "big"))
    assert len(wire.pack([bytes(wire.MOST - 4)])) == wire.MOST + 4
    with pytest.raises(wire.WireError, match=f"more than the {wire.MOST} of a frame"):
        wire.pack([bytes(wire.MOST - 3)])


def test_proofs_are_hmacs_of_who_says_it_and_of_both_nonces() -> None:
    server, client = b"s" * 32, b"c" * 32
    assert wire.client_proof(b"k", server, client) == hmac.digest(b"k", b"client" + server + client, "sha256")
    assert wire.server_proof(b"k", server, client) == hmac.digest(b"k", b"server" + client + server, "sha256")
    assert len(wire.client_proof(b"k", server, client)) == wire.PROOF == hashlib.sha256().digest_size


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_no_proof_of_one_side_serves_for_the_other(server: bytes, client: bytes) -> None:
    theirs = wire.client_proof(b"k", server, client)
    assert not wire.same(theirs, wire.server_proof(b"k", server, client))
    assert wire.same(theirs, wire.client_proof(b"k", server, client)) and not wire.same(theirs, wire.client_proof(b"l", server, client))
