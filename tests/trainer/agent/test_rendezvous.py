"""Only who knows the attempt's secret reads, writes or forges what nodes and ranks meet by."""

from __future__ import annotations

import gc
import os
import pickle
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta

import pytest
from torch._C._distributed_c10d import PrefixStore, TCPStore
from torch.distributed import DistError, DistNetworkError, DistStoreError

from llmtrain_trainer.config import RENDEZVOUS_SECRET
from llmtrain_trainer.rendezvous import wire
from llmtrain_trainer.rendezvous.client import SecretStore
from llmtrain_trainer.rendezvous.server import _MOST_STRANGERS, RendezvousServer

SECRET = b"the secret of this attempt"
SOON, LATER = timedelta(seconds=0.2), timedelta(seconds=120)


@pytest.fixture
def port() -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    port: int = listener.getsockname()[1]
    server = RendezvousServer(listener, SECRET)
    yield port
    server.close()


@pytest.fixture
def store(port: int) -> SecretStore:
    made = SecretStore("127.0.0.1", port, SECRET, LATER)
    made.set("verdict", "ours")
    return made


def test_who_knows_the_secret_reads_what_another_wrote(port: int, store: SecretStore) -> None:
    other = SecretStore("127.0.0.1", port, SECRET, LATER)
    assert other.get("verdict") == b"ours"
    assert other.add("count", 2) == 2 and store.add("count", -5) == -3
    other.append("list", b"a")
    store.append("list", "b")
    assert store.get("list") == b"ab" and other.num_keys() == 3
    assert other.delete_key("count") and not store.check(["count"]) and not other.delete_key("count")


def test_compare_and_set_is_that_of_torchs_stores(store: SecretStore) -> None:
    assert store.compare_set("asked", "", "1") == b"1", "an absent key is empty"
    assert store.compare_set("asked", "0", "2") == b"1"
    assert store.compare_set("asked", "1", "2") == b"2"
    assert store.compare_set("absent", "x", "y") == b"x" and not store.check(["absent"])


def test_of_many_that_compare_at_once_one_wins(port: int) -> None:
    stores = [SecretStore("127.0.0.1", port, SECRET, LATER) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        held = list(pool.map(lambda pair: pair[1].compare_set("k", "", str(pair[0])), enumerate(stores)))
    assert len(set(held)) == 1


def test_a_wait_ends_when_the_key_is_set_and_holds_up_no_other_thread(port: int, store: SecretStore) -> None:
    waited = threading.Thread(target=store.wait, args=(["late"], LATER))
    waited.start()
    SecretStore("127.0.0.1", port, SECRET, LATER).set("late", "x")
    waited.join(120)
    assert not waited.is_alive()


def test_a_wait_in_vain_ends_with_the_key_it_waited_for(store: SecretStore) -> None:
    with pytest.raises(DistStoreError, match="wait timeout after 200ms, keys: never"):
        store.wait(["verdict", "never"], SOON)


def test_torch_puts_prefixes_before_its_keys(store: SecretStore) -> None:
    PrefixStore("gang/one", store).set("asked", "7")
    assert store.get("gang/one/asked") == b"7"


def test_it_lives_as_long_as_what_torch_wraps_it_in(port: int) -> None:
    wrapped = PrefixStore("a", PrefixStore("b", SecretStore("127.0.0.1", port, SECRET, LATER)))
    gc.collect()
    wrapped.set("k", "v")
    assert wrapped.check(["k"]) and wrapped.get("k") == b"v"


def attempts(port: int) -> Iterator[socket.socket]:
    """Connections of a stranger that has read the greeting."""
    while True:
        made = socket.create_connection(("127.0.0.1", port), timeout=60)
        greeting = b""
        while len(greeting) < len(wire.MAGIC) + wire.NONCE:
            greeting += made.recv(1000)
        yield made


@pytest.mark.parametrize("secret", [b"", b"another secret of some", SECRET + b"x", SECRET[:-1]])
def test_another_secret_is_turned_away_with_the_reason(port: int, store: SecretStore, secret: bytes) -> None:
    with pytest.raises(DistNetworkError, match=f"another secret in {RENDEZVOUS_SECRET}"):
        SecretStore("127.0.0.1", port, secret, SOON)
    assert store.get("verdict") == b"ours"


def test_torchs_own_store_is_no_way_in(port: int, store: SecretStore) -> None:
    with pytest.raises((DistError, RuntimeError)):
        TCPStore("127.0.0.1", port, is_master=False, timeout=timedelta(seconds=2), wait_for_workers=False).set("verdict", "theirs")
    assert store.get("verdict") == b"ours" and store.num_keys() == 1


@pytest.mark.parametrize(
    "said",
    [
        wire.pack([wire.SET, b"verdict", b"theirs"]),
        bytes(range(1, 1 + wire.NONCE + wire.PROOF)) + wire.pack([wire.SET, b"verdict", b"theirs"]),
        bytes(wire.NONCE + wire.PROOF) + wire.pack([wire.DELETE, b"verdict"]),
        pickle.dumps({"verdict": "theirs"}) * 20,
        b"\xff" * 100_000,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 10,
        b"",
    ],
    ids=["no proof", "a wrong proof", "a proof of zeros", "a pickle", "noise", "http", "nothing"],
)
def test_whatever_a_stranger_says_changes_nothing_and_ends_its_connection(port: int, store: SecretStore, said: bytes) -> None:
    stranger = next(attempts(port))
    stranger.sendall(said)
    stranger.shutdown(socket.SHUT_WR)
    with suppress(ConnectionError):
        assert stranger.recv(1000) == b""
    assert store.get("verdict") == b"ours" and store.num_keys() == 1


def test_a_proof_that_was_overheard_is_of_no_use(port: int, store: SecretStore) -> None:
    theirs = os.urandom(wire.NONCE)
    overheard = theirs + wire.client_proof(SECRET, os.urandom(wire.NONCE), theirs)
    stranger = next(attempts(port))
    stranger.sendall(overheard)
    assert stranger.recv(100) == b""


def test_a_server_that_does_not_know_the_secret_is_told_nothing() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    RendezvousServer(listener, b"somebody else's secret")
    with pytest.raises(DistNetworkError, match="does not accept this one"):
        SecretStore("127.0.0.1", listener.getsockname()[1], SECRET, SOON)


def test_strangers_that_say_nothing_keep_nobody_out(port: int, store: SecretStore) -> None:
    crowd = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(_MOST_STRANGERS + 40)]
    assert SecretStore("127.0.0.1", port, SECRET, LATER).get("verdict") == b"ours"
    for stranger in crowd:
        stranger.close()


@pytest.mark.parametrize(
    "request_", [[], [b"?"], [wire.SET], [wire.SET, b"k"], [wire.ADD, b"k", b"x"], [wire.GET, b"\xff\xfe"], [wire.WAIT, b"k", b"soon"]]
)
def test_a_request_that_is_none_ends_that_connection_alone(port: int, store: SecretStore, request_: list[bytes]) -> None:
    odd = SecretStore("127.0.0.1", port, SECRET, LATER)
    with pytest.raises(DistNetworkError):
        odd._ask(request_[0] if request_ else b"", *request_[1:])
    assert store.get("verdict") == b"ours"


@pytest.mark.parametrize("body", [b"\0\0\0\x09abc", b"\0\0", b"\xff\xff\xff\xff"])
def test_a_torn_frame_is_none(body: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.unpack(body)


def test_a_frame_comes_back_as_it_was_and_its_length_is_bounded() -> None:
    fields = [b"", b"a", bytes(1000), "é".encode()]
    frame = wire.pack(fields)
    assert wire.length_of(frame[:4]) == len(frame) - 4 and wire.unpack(frame[4:]) == fields
    with pytest.raises(wire.WireError):
        wire.length_of(b"\xff\xff\xff\xff")
    with pytest.raises(wire.WireError):
        wire.pack([bytes(wire.MOST + 1)])
