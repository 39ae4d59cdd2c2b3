"""Who hangs, told from heartbeats."""

from __future__ import annotations

from typing import Any

from llmtrain_trainer.agent.policies.hang import Listening, patience, silent_rank
from llmtrain_trainer.config import Heartbeat


def beat(rank: int, **changes: Any) -> Heartbeat:
    return Heartbeat(**{"rank": rank, "pid": 100 + rank, "step": 5, "phase": "step", "time": 100.0} | changes)


def silences(beats: list[Heartbeat], now: float) -> dict[int, float]:
    return {beat.rank: now - beat.time for beat in beats}


def blamed(beats: list[Heartbeat], started_at_step: int, limit: float, now: float, states: dict[int, str]) -> Any:
    return silent_rank(beats, started_at_step, limit, silences(beats, now), states)


def test_a_configured_limit_counts_as_it_is() -> None:
    assert patience(5.0, [100.0]) == 5.0


def test_a_learned_limit_is_ten_steps_and_at_least_five_minutes() -> None:
    assert patience(None, []) == 300.0
    assert patience(None, [1.0, 2.0]) == 300.0
    assert patience(None, [60.0, 70.0, 5000.0]) == 700.0


def test_ranks_that_beat_do_not_hang() -> None:
    assert blamed([beat(0), beat(1)], 0, 10.0, 109.0, {}) is None


def test_the_stopped_process_is_to_blame() -> None:
    found = blamed([beat(0, time=99.0), beat(1), beat(2)], 0, 10.0, 111.0, {1: "stopped", 0: "running", 2: "running"})
    assert found is not None and found[0].rank == 1


def test_without_a_stopped_process_the_rank_that_is_behind_is_to_blame() -> None:
    found = blamed([beat(0), beat(1, step=4), beat(2)], 0, 10.0, 120.0, {})
    assert found is not None and found[0].rank == 1


def test_the_first_step_after_a_start_may_take_longer() -> None:
    assert blamed([beat(0, step=5)], 5, 10.0, 500.0, {}) is None
    assert blamed([beat(0, step=6)], 5, 10.0, 500.0, {}) is not None


def test_an_export_may_take_longer() -> None:
    assert blamed([beat(0, phase="export")], 0, 10.0, 1000.0, {}) is None


def test_a_machine_that_slept_is_no_hang() -> None:
    listening = Listening(0.0)
    ticks = [(at / 10, beat(0, time=at / 10)) for at in range(100)]
    assert [listening.look([each], now) for now, each in ticks] == [0.0] * 100
    asleep = listening.look([ticks[-1][1]], 4000.0)
    assert asleep == 4000.0 - 9.9
    assert listening.silence(0) <= 2.0
    assert listening.look([beat(0, time=4000.1)], 4000.2) == 0.0 and listening.silence(0) == 0.0


def test_a_rank_that_is_silent_while_the_agent_runs_does_hang() -> None:
    listening = Listening(0.0)
    for tick in range(1, 301):
        listening.look([beat(0), beat(1, time=tick / 10)], tick / 10)
    assert abs(listening.silence(0) - 29.9) < 0.01 and listening.silence(1) == 0.0
    assert abs(listening.silence(2) - 30.0) < 0.01, "no heartbeat at all"


def test_a_wall_clock_that_jumps_is_no_hang() -> None:
    listening = Listening(0.0)
    for tick in range(1, 20):
        listening.look([beat(0, time=tick / 10 - (86_400 if tick > 10 else 0))], tick / 10)
    assert listening.silence(0) == 0.0
