"""When a rank writes its heartbeat, and what stands in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmtrain_trainer.config import GpuMemory, Heartbeat
from llmtrain_trainer.run_dir import heartbeat
from llmtrain_trainer.run_dir.heartbeat import HeartbeatWriter


class Clock:
    now = 1000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(heartbeat, "time", clock)
    return clock


def written(pulse: HeartbeatWriter) -> Heartbeat:
    return Heartbeat.model_validate_json(pulse.path.read_text())


def test_a_heartbeat_says_who_what_and_since_when(clock: Clock, tmp_path: Path) -> None:
    pulse = HeartbeatWriter(tmp_path / "heartbeat" / "rank-3.json", 3, 77)
    pulse.beat("load")
    assert written(pulse) == Heartbeat(rank=3, pid=77, step=0, phase="load", time=1000.0)
    clock.now += 5
    pulse.beat("step", 12)
    assert written(pulse) == Heartbeat(rank=3, pid=77, step=12, phase="step", time=1005.0)


@pytest.mark.parametrize(
    ("before", "phase", "seconds", "is_written"),
    [
        ("step", "step", 0.09, False),
        ("step", "data", 0.09, False),
        ("data", "step", 0.09, False),
        ("step", "step", 0.11, True),
        ("step", "save", 0.0, True),
        ("save", "step", 0.0, True),
        ("save", "save", 0.0, True),
        ("start", "load", 0.0, True),
        ("evaluate", "evaluate", 0.0, True),
        ("step", "export", 0.0, True),
    ],
)
def test_quick_steps_share_a_heartbeat_and_every_other_phase_has_its_own(
    clock: Clock, tmp_path: Path, before: heartbeat.Phase, phase: heartbeat.Phase, seconds: float, is_written: bool
) -> None:
    pulse = HeartbeatWriter(tmp_path / "rank-0.json", 0, 1, phase=before)
    pulse.write(clock.now)
    clock.now += seconds
    pulse.beat(phase, 5)
    assert (written(pulse).step == 5) is is_written
    assert (pulse.step, pulse.phase) == (5, phase), "what was not written now is written with the next"


def test_the_count_of_steps_stays_where_none_is_given(clock: Clock, tmp_path: Path) -> None:
    pulse = HeartbeatWriter(tmp_path / "rank-0.json", 0, 1)
    pulse.beat("step", 9)
    pulse.beat("save")
    assert written(pulse).step == 9


@pytest.mark.parametrize(
    ("rank", "seconds", "slowdown"),
    [
        (0, (), None),
        (2, (1.0, 1.0), None),
        (1, (1.0, 3.0, 1.0), 3.0),
        (0, (1.0, 2.0), 1 / 1.5),
        (0, (0.0, 2.0), None),
        (1, (0.0, 2.0), None),
    ],
    ids=["none yet", "fewer than ranks", "a straggler", "the faster", "one before its first step", "another before its first step"],
)
def test_the_slowdown_is_against_the_median_of_all_ranks(
    clock: Clock, tmp_path: Path, rank: int, seconds: tuple[float, ...], slowdown: float | None
) -> None:
    pulse = HeartbeatWriter(tmp_path / "rank.json", rank, 1, rank_seconds=seconds)
    pulse.write(clock.now)
    assert written(pulse).slowdown == (pytest.approx(slowdown) if slowdown else None)


def test_the_memory_is_asked_for_when_it_is_written(clock: Clock, tmp_path: Path) -> None:
    asked: list[float] = []

    def gpu() -> GpuMemory:
        asked.append(clock.now)
        return GpuMemory(allocated_bytes=len(asked), reserved_bytes=9, alloc_retries=0, ooms=0)

    pulse = HeartbeatWriter(tmp_path / "rank-0.json", 0, 1, gpu)
    for _ in range(3):
        pulse.beat("step")
        clock.now += 0.04
    found = written(pulse).gpu_memory
    assert len(asked) == 1 and found is not None and found.allocated_bytes == 1
