"""Phases of a step, on a clock that the test moves."""

from __future__ import annotations

import pytest
import torch

from llmtrain_trainer.engines import stopwatch
from llmtrain_trainer.engines.stopwatch import Stopwatch


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: now[0])
    return now


def test_a_phase_within_another_is_not_counted_twice(clock: list[float]) -> None:
    watch = Stopwatch(torch.device("cpu"))
    with watch.phase("comm"):
        clock[0] += 1.0
        with watch.phase("forward"):
            clock[0] += 2.0
        clock[0] += 4.0
    clock[0] += 8.0
    assert watch.take() == {"comm": 5.0, "forward": 2.0}
    assert watch.take() == {}


def test_a_ranks_own_pace_leaves_out_its_waits_and_one_slow_step(clock: list[float]) -> None:
    watch = Stopwatch(torch.device("cpu"))
    assert watch.own_seconds == 0.0
    for seconds in (1.0, 1.0, 50.0):
        with watch.phase("comm"):
            clock[0] += 7.0
            with watch.phase("backward"):
                clock[0] += seconds
        watch.take()
    assert watch.own_seconds == 1.0
