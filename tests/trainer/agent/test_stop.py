"""A stop is asked for by a signal, seen by the ranks as a file, and has its time."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmtrain_trainer.agent import stop as module
from llmtrain_trainer.agent.stop import Stop
from llmtrain_trainer.run_dir.layout import RunDir


class Clock:
    now = 5000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def stop(tmp_path: Path, clock: Clock) -> Iterator[Callable[[float], Stop]]:
    """Makes one; afterwards the signals are what they were."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield lambda grace: Stop(RunDir(tmp_path / "run"), grace)
    for number, handler in before.items():
        signal.signal(number, handler)


def test_nothing_is_asked_for_before_a_signal(stop: Callable[[float], Stop], clock: Clock) -> None:
    made = stop(30.0)
    clock.now += 1e9
    assert not made.requested and not made.expired()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_the_ranks_and_starts_the_time(stop: Callable[[float], Stop], clock: Clock, tmp_path: Path, number: int) -> None:
    made = stop(30.0)
    signal.raise_signal(number)
    assert made.requested and (tmp_path / "run" / "stop").exists()
    clock.now += 29.9
    assert not made.expired()
    clock.now += 0.2
    assert made.expired()


def test_a_second_ctrl_c_ends_the_time_at_once(stop: Callable[[float], Stop], clock: Clock) -> None:
    made = stop(30.0)
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    assert not made.expired(), "Kubernetes may say it twice"
    signal.raise_signal(signal.SIGINT)
    assert made.expired()


def test_a_second_signal_does_not_start_the_time_again(stop: Callable[[float], Stop], clock: Clock) -> None:
    made = stop(30.0)
    signal.raise_signal(signal.SIGTERM)
    clock.now += 20.0
    signal.raise_signal(signal.SIGTERM)
    clock.now += 10.1
    assert made.expired()


def test_a_stop_of_an_earlier_run_in_the_directory_is_none_of_this_one(stop: Callable[[float], Stop], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "stop").touch()
    stop(30.0)
    assert not (tmp_path / "run" / "stop").exists()
