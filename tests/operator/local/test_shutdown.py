"""How a local run ends early: told once it saves, told twice it stops at once, and one failed node takes the others along after a while."""

from __future__ import annotations

import os
import signal
from types import SimpleNamespace
from typing import Any

import pytest

from llmtrain_operator.local.shutdown import SECONDS_TO_FOLLOW, SECONDS_TO_SAVE, Shutdown
from llmtrain_trainer.config import ExitCode


class Agent:
    """An agent process that only notes which signals it got."""

    def __init__(self, code: int | None = None) -> None:
        self.process = SimpleNamespace(returncode=code)
        self.got: list[int] = []

    @property
    def alive(self) -> bool:
        return self.process.returncode is None

    def send(self, number: int) -> None:
        self.got.append(number)


def shutdown(*agents: Agent) -> tuple[Shutdown, list[str]]:
    said: list[str] = []
    return Shutdown(agents=agents, say=said.append), said  # type: ignore[arg-type]


def test_nobody_is_told_anything_while_all_is_well() -> None:
    agents = (Agent(), Agent(ExitCode.DONE))
    ending, said = shutdown(*agents)
    for now in (0.0, 10.0, 1e6):
        ending.tend(now)
    assert [agent.got for agent in agents] == [[], []] and said == []


def test_after_one_signal_every_agent_saves_and_is_told_so_once() -> None:
    agents = (Agent(), Agent())
    ending, said = shutdown(*agents)
    ending.told = 1
    for now in range(5):
        ending.tend(float(now))
    assert [agent.got for agent in agents] == [[signal.SIGTERM]] * 2
    assert said == ["Saving a checkpoint, then stopping. Press Ctrl-C again to stop at once."]


def test_after_a_second_signal_they_are_killed_and_what_is_lost_is_said() -> None:
    agent = Agent()
    ending, said = shutdown(agent)
    ending.told = 1
    ending.tend(0.0)
    ending.told = 2
    ending.tend(0.1)
    ending.tend(0.2)
    assert agent.got == [signal.SIGTERM, signal.SIGKILL]
    assert said[1:] == ["Stopping at once; steps that were not saved are lost."]


def test_two_signals_at_once_still_ask_to_save_first() -> None:
    agent = Agent()
    ending, _ = shutdown(agent)
    ending.told = 2
    ending.tend(0.0)
    assert agent.got == [signal.SIGTERM]
    ending.tend(0.1)
    assert agent.got == [signal.SIGTERM, signal.SIGKILL]


def test_saving_has_its_time_and_no_more() -> None:
    agent = Agent()
    ending, said = shutdown(agent)
    ending.told = 1
    ending.tend(100.0)
    ending.tend(100.0 + SECONDS_TO_SAVE)
    assert agent.got == [signal.SIGTERM]
    ending.tend(100.1 + SECONDS_TO_SAVE)
    ending.tend(200.0 + SECONDS_TO_SAVE)
    assert agent.got == [signal.SIGTERM, signal.SIGKILL]
    assert said[1:] == [f"Saving took longer than {SECONDS_TO_SAVE:.0f} s; stopping at once."]


@pytest.mark.parametrize("code", [ExitCode.RANK_FAILED, ExitCode.STOPPED_UNSAVED, 1, -9])
def test_a_node_that_failed_takes_the_others_along_after_they_had_time_to_notice(code: int) -> None:
    failed, other = Agent(code), Agent()
    ending, said = shutdown(failed, other)
    ending.tend(50.0)
    ending.tend(50.0 + SECONDS_TO_FOLLOW)
    assert other.got == [] and said == []
    ending.tend(50.1 + SECONDS_TO_FOLLOW)
    assert other.got == [signal.SIGTERM] and said == ["A node has failed; the others stop."]


@pytest.mark.parametrize("code", [ExitCode.DONE, ExitCode.SAVED])
def test_a_node_that_ended_well_takes_nobody_along(code: int) -> None:
    other = Agent()
    ending, said = shutdown(Agent(code), other)
    ending.tend(0.0)
    ending.tend(10 * SECONDS_TO_FOLLOW)
    assert other.got == [] and said == []


def test_where_all_have_ended_nobody_is_told() -> None:
    agents = (Agent(1), Agent(-9))
    ending, said = shutdown(*agents)
    ending.tend(1.0)
    ending.tend(10 * SECONDS_TO_FOLLOW)
    assert [agent.got for agent in agents] == [[], []] and said == []


def test_a_failure_while_they_save_does_not_tell_them_again() -> None:
    first, second = Agent(), Agent()
    ending, _ = shutdown(first, second)
    ending.told = 1
    ending.tend(1.0)
    first.process.returncode = 1
    ending.tend(2.0)
    ending.tend(3.0 + SECONDS_TO_FOLLOW)
    assert second.got == [signal.SIGTERM]


def test_those_that_follow_a_failed_node_have_time_to_save_too() -> None:
    other = Agent()
    ending, said = shutdown(Agent(1), other)
    ending.tend(1.0)
    ending.tend(2.0 + SECONDS_TO_FOLLOW)
    ending.tend(3.0 + SECONDS_TO_FOLLOW + SECONDS_TO_SAVE)
    assert other.got == [signal.SIGTERM, signal.SIGKILL]
    assert "Saving took longer" in said[-1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_each_way_to_end_a_process_counts_as_one_request_and_handlers_are_put_back(number: signal.Signals) -> None:
    before: Any = signal.getsignal(number)
    ending, _ = shutdown(Agent())
    with ending.listening():
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        assert ending.told == 2
    assert signal.getsignal(number) is before
