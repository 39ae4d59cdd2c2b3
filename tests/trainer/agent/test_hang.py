"""Who hangs, told from heartbeats."""

from __future__ import annotations

from typing import Any

from llmtrain_trainer.agent.hang import patience, silent_rank
from llmtrain_trainer.config import Heartbeat


def beat(rank: int, **changes: Any) -> Heartbeat:
    return Heartbeat(**{"rank": rank, "pid": 100 + rank, "step": 5, "phase": "step", "time": 100.0} | changes)


def test_a_configured_limit_counts_as_it_is() -> None:
    assert patience(5.0, [100.0]) == 5.0


def test_a_learned_limit_is_ten_steps_and_at_least_five_minutes() -> None:
    assert patience(None, []) == 300.0
    assert patience(None, [1.0, 2.0]) == 300.0
    assert patience(None, [60.0, 70.0, 5000.0]) == 700.0


def test_ranks_that_beat_do_not_hang() -> None:
    assert silent_rank([beat(0), beat(1)], 0, 10.0, 109.0, {}) is None


def test_the_stopped_process_is_to_blame() -> None:
    found = silent_rank([beat(0, time=99.0), beat(1), beat(2)], 0, 10.0, 111.0, {1: "stopped", 0: "running", 2: "running"})
    assert found is not None and found[0].rank == 1


def test_without_a_stopped_process_the_rank_that_is_behind_is_to_blame() -> None:
    found = silent_rank([beat(0), beat(1, step=4), beat(2)], 0, 10.0, 120.0, {})
    assert found is not None and found[0].rank == 1


def test_the_first_step_after_a_start_may_take_longer() -> None:
    assert silent_rank([beat(0, step=5)], 5, 10.0, 500.0, {}) is None
    assert silent_rank([beat(0, step=6)], 5, 10.0, 500.0, {}) is not None


def test_an_export_may_take_longer() -> None:
    assert silent_rank([beat(0, phase="export")], 0, 10.0, 1000.0, {}) is None
