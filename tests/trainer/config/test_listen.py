"""Listening on IPv4 and IPv6 alike, and addresses written down and read again."""

from __future__ import annotations

import socket
import sys
from contextlib import ExitStack

import pytest

from llmtrain_trainer.config.listen import LOOPBACK, bound, joined, listeners, loopback, parted


def answers(address: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as one:
        one.settimeout(60)
        return one.connect_ex((address, port)) == 0


@pytest.fixture(autouse=True)
def both() -> None:
    """This machine has both families."""
    try:
        for address in LOOPBACK:
            socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET).close()
    except OSError:
        pytest.skip("this machine has one family of addresses alone")


@pytest.mark.parametrize("host", ["::", "", "*", "localhost"])
def test_both_families_are_answered_on_one_port(host: str) -> None:
    with ExitStack() as stack:
        made = [stack.enter_context(one) for one in listeners(host, 0)]
        assert len({one.getsockname()[1] for one in made}) == 1
        assert all(answers(address, made[0].getsockname()[1]) for address in LOOPBACK)


@pytest.mark.parametrize("host", LOOPBACK)
def test_an_address_is_itself_alone(host: str) -> None:
    with ExitStack() as stack:
        (made,) = [stack.enter_context(one) for one in listeners(host, 0)]
        assert [answers(address, made.getsockname()[1]) for address in LOOPBACK] == [address == host for address in LOOPBACK]


@pytest.mark.parametrize("taken", LOOPBACK)
def test_a_port_that_one_family_has_taken_is_taken(taken: str) -> None:
    with ExitStack() as stack:
        (made,) = [stack.enter_context(one) for one in listeners(taken, 0)]
        with pytest.raises(OSError, match="in use"):
            listeners("localhost", made.getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            listeners("::", made.getsockname()[1])


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody can listen where another socket is bound")
def test_a_port_that_is_held_for_a_server_is_the_servers_and_nobody_elses() -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(one) for one in bound("localhost")]
        port = held[0].getsockname()[1]
        for one in held:
            with socket.socket(one.family) as other, pytest.raises(OSError, match="in use"):
                other.bind((one.getsockname()[0], port))
        made = [stack.enter_context(one) for one in listeners("localhost", port)]
        assert len(made) == len(LOOPBACK) and all(answers(address, port) for address in LOOPBACK)


def test_a_machine_without_ipv6_is_served_on_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(address: tuple[str, int], **given: object) -> socket.socket:
        if given.get("family") == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return real(address, **given)  # type: ignore[arg-type]

    real = socket.create_server
    monkeypatch.setattr(socket, "create_server", refuse)
    for host in ("::", "localhost"):
        with ExitStack() as stack:
            (made,) = [stack.enter_context(one) for one in listeners(host, 0)]
            assert made.family == socket.AF_INET and answers("127.0.0.1", made.getsockname()[1])
    assert loopback() == "127.0.0.1"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "fd00::a", "demo-a1-0.ltj-demo.team.svc.cluster.local"])
def test_an_address_is_read_as_it_was_written(host: str) -> None:
    assert parted(joined(host, 29400)) == (host, 29400)


@pytest.mark.parametrize("text", ["::1:29400", "::1", "host", "host:", "host:http", "[::1]", ""])
def test_what_does_not_say_its_port_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not HOST:PORT"):
        parted(text)
