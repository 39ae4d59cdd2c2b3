"""When a checkpoint is due, and that all ranks think so at the same step."""

from __future__ import annotations

from collections.abc import Callable

from llmtrain_trainer.config import Cadence
from llmtrain_trainer.rank.cadence import SaveCadence


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def alone(value: int) -> int:
    return value


def due_steps(cadence: SaveCadence, clock: Clock, steps: int, step_seconds: Callable[[int], float]) -> list[int]:
    found = []
    for step in range(1, steps + 1):
        clock.now += step_seconds(step)
        if cadence.due(step, step_seconds(step)):
            found.append(step)
            cadence.saved()
    return found


def test_a_cadence_of_steps_never_asks_the_others() -> None:
    def never(_value: int) -> int:
        raise AssertionError("a broadcast for nothing")

    clock = Clock()
    assert due_steps(SaveCadence(Cadence(steps=5), never, clock), clock, 12, lambda _: 1.0) == [5, 10]


def test_an_interval_is_met_within_a_step() -> None:
    clock = Clock()
    assert due_steps(SaveCadence(Cadence(interval="10s"), alone, clock), clock, 25, lambda _: 1.0) == [10, 20]


def test_steps_that_get_slower_do_not_stretch_the_interval_beyond_twice_its_length() -> None:
    clock = Clock()
    saves = due_steps(SaveCadence(Cadence(interval="100s"), alone, clock), clock, 120, lambda step: 1.0 if step < 50 else 2.0)
    assert saves[0] <= 76


def test_whichever_comes_first_counts() -> None:
    clock = Clock()
    assert due_steps(SaveCadence(Cadence(steps=7, interval="10s"), alone, clock), clock, 20, lambda _: 1.0) == [7, 14]


def test_a_rank_with_a_clock_of_its_own_saves_when_rank_0_does() -> None:
    first, other = Clock(), Clock()
    answers: list[int] = []

    def tell(value: int) -> int:
        answers.append(value)
        return value

    leader = SaveCadence(Cadence(interval="10s"), tell, first)
    follower = SaveCadence(Cadence(interval="10s"), lambda _own: answers.pop(0), other)
    for step in range(1, 40):
        first.now += 1.0
        other.now += 3.0
        due = leader.due(step, 1.0)
        assert follower.due(step, 3.0) == due
        if due:
            leader.saved()
            follower.saved()
    assert not answers


def test_few_questions_are_asked_in_a_long_interval() -> None:
    clock, asked = Clock(), []

    def count(value: int) -> int:
        asked.append(value)
        return value

    due_steps(SaveCadence(Cadence(interval="15m"), count, clock), clock, 900, lambda _: 1.0)
    assert len(asked) < 20
