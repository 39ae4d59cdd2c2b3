"""The rendezvous answers as torch's own in-memory store does, whatever is asked in whatever order."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._C._distributed_c10d import HashStore

from llmtrain_trainer.rendezvous import wire
from llmtrain_trainer.rendezvous.client import SecretStore
from llmtrain_trainer.rendezvous.connection import Connection
from llmtrain_trainer.rendezvous.server import RendezvousServer

SECRET = b"the secret of this attempt"
LATER = timedelta(seconds=120)
KEYS = st.sampled_from(["a", "b", "a/b", "é", ""])
VALUES = st.sampled_from(["", "1", "x", "y" * 100])
CALLS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), KEYS, VALUES),
        st.tuples(st.just("add"), st.sampled_from(["n", "m"]), st.integers(-5, 5)),
        st.tuples(st.just("compare_set"), KEYS, VALUES, VALUES),
        st.tuples(st.just("delete_key"), KEYS),
        st.tuples(st.just("check"), st.lists(KEYS, min_size=1, max_size=3)),
        st.tuples(st.just("append"), KEYS, VALUES),
    ),
    max_size=12,
)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    server = RendezvousServer(listener, SECRET)
    yield listener.getsockname()[1]
    server.close()


@pytest.fixture(scope="module")
def store(port: int) -> SecretStore:
    return SecretStore("127.0.0.1", port, SECRET, LATER)


@settings(max_examples=40)
@given(CALLS)
def test_it_holds_what_torchs_store_would_hold(store: SecretStore, calls: list[tuple[object, ...]]) -> None:
    theirs = HashStore()
    for key in ("a", "b", "a/b", "é", "", "n", "m"):
        store.delete_key(key)
    for name, *given_ in calls:
        mine, other = getattr(store, str(name))(*given_), getattr(theirs, str(name))(*given_)
        assert mine == other, (name, given_)
    for key in ("a", "b", "a/b", "é", "", "n", "m"):
        assert store.check([key]) == theirs.check([key])
        if store.check([key]):
            assert store.get(key) == theirs.get(key)


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 1 << 20, (1 << 20) + 1, 15 << 20])
def test_a_value_of_any_size_comes_back_whole(store: SecretStore, size: int) -> None:
    value = (bytes(range(256)) * (size // 256 + 1))[:size]
    store.set("big", value)
    assert store.get("big") == value


def test_many_keys_at_once_are_answered_in_their_order(store: SecretStore) -> None:
    store.multi_set(["k2", "k1"], ["two", b"\x00\xff"])
    assert store.multi_get(["k1", "k2", "k1"]) == [b"\x00\xff", b"two", b"\x00\xff"]
    with pytest.raises(ValueError):
        store.multi_set(["k1", "k2"], ["one"])


def test_another_connection_sees_the_same(store: SecretStore) -> None:
    store.set("shared", "1")
    assert store.clone().add("shared", 41) == 42 and store.get("shared") == b"42"


def test_a_wait_for_a_key_that_is_there_asks_once(store: SecretStore) -> None:
    store.set("there", "")
    store.wait(["there", "there"], timedelta(0))


def test_a_wait_of_no_time_does_not_wait(store: SecretStore) -> None:
    with pytest.raises(Exception, match="wait timeout after 0ms, keys: never"):
        store.wait(["never"], timedelta(0))


def test_a_connection_that_was_closed_says_so(port: int) -> None:
    connection = Connection("127.0.0.1", port, SECRET, 60.0)
    assert connection.ask(wire.SET, "k", b"v") == [wire.OK] and connection.ask(wire.GET, "k") == [wire.OK, b"v"]
    connection.close()
    with pytest.raises(ConnectionError, match=f"Connection closed by peer 127.0.0.1:{port}"):
        connection.ask(wire.GET, "k")


def test_where_nobody_listens_the_address_is_named_once_patience_is_over() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        with pytest.raises(ConnectionError, match=rf"127\.0\.0\.1:{port} cannot be reached: "):
            Connection("127.0.0.1", port, SECRET, 0.0)


def test_a_server_that_says_something_else_is_no_rendezvous() -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 40\r\n\r\n" + bytes(40))
        await writer.drain()
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConnectionError, match="or is no rendezvous \\(it says something else\\)"):
            await asyncio.to_thread(Connection, "127.0.0.1", port, SECRET, 60.0)
        server.close()

    asyncio.run(run())


def test_after_its_end_the_server_answers_nobody() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    server, port = RendezvousServer(listener, SECRET), listener.getsockname()[1]
    connection = Connection("127.0.0.1", port, SECRET, 60.0)
    server.close()
    with pytest.raises(ConnectionError):
        connection.ask(wire.GET, "k")
    with pytest.raises(ConnectionError):
        Connection("127.0.0.1", port, SECRET, 0.0)
    server.close()
