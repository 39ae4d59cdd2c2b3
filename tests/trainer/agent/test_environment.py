"""Environment variables that an agent sets for its ranks, and the secret that it reads."""

from __future__ import annotations

import os

import pytest

from llmtrain_trainer.agent.environment import set_for_ranks, shared_secret
from llmtrain_trainer.agent.outcome import UnfitError
from llmtrain_trainer.config import RENDEZVOUS_SECRET, ExitCode

INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a copy of the environment without these variables."""
    kept = {name: value for name, value in os.environ.items() if name not in ("DS_ACCELERATOR", RENDEZVOUS_SECRET, *INTERFACES)}
    monkeypatch.setattr(os, "environ", kept)


@pytest.mark.parametrize(("host", "interface"), [("localhost", "lo"), ("127.0.0.1", "lo"), ("job-0.job", None)])
def test_collectives_stay_on_the_loopback_interface_only_where_node_0_is_there(host: str, interface: str | None) -> None:
    set_for_ranks("cpu", host)
    assert [os.environ.get(name) for name in INTERFACES] == [interface] * 2


def test_what_a_person_set_stays() -> None:
    os.environ.update(OMP_NUM_THREADS="7", GLOO_SOCKET_IFNAME="eth1")
    set_for_ranks("cuda", "localhost")
    assert (os.environ["OMP_NUM_THREADS"], os.environ["GLOO_SOCKET_IFNAME"], os.environ["DS_ACCELERATOR"]) == ("7", "eth1", "cuda")


def test_a_node_that_is_alone_draws_a_secret_of_its_own_each_time() -> None:
    assert shared_secret(1) != shared_secret(1)


@pytest.mark.parametrize("given", ["", "short"])
def test_nodes_that_meet_need_a_secret_of_some_length(given: str) -> None:
    os.environ[RENDEZVOUS_SECRET] = given
    with pytest.raises(UnfitError, match=f"has {len(given)} characters") as caught:
        shared_secret(2)
    assert caught.value.verdict.exit_code == ExitCode.CONFIG


def test_a_secret_that_was_given_is_used_as_it_is() -> None:
    os.environ[RENDEZVOUS_SECRET] = "a secret of the tests"
    assert shared_secret(1) == shared_secret(2) == "a secret of the tests"
