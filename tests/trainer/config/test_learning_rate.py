"""The learning rate as a pure function of the step."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtrain_trainer.config import Optimizer, Schedule, Training
from llmtrain_trainer.config.learning_rate import learning_rate

FALLING = ["constant", "linear", "cosine", "wsd", "polynomial"]
NAMES = [*FALLING, "cosineRestarts"]


def training(name: str, *, warmup: int = 0, floor: float = 0.1) -> Training:
    return Training(
        global_batch_size=8,
        sequence_length=16,
        max_steps=100,
        optimizer=Optimizer(learning_rate=1.0),
        schedule=Schedule(name=name, warmup_steps=warmup, min_ratio=floor, decay_ratio=0.2),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_warm_up_rises_linearly_to_the_peak(name: str) -> None:
    rates = [learning_rate(training(name, warmup=4), step, 100) for step in range(1, 5)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0])


@pytest.mark.parametrize("steps", [1, 3, 10, 333])
def test_a_warm_up_given_as_a_share_has_as_many_steps_as_hugging_faces_trainer_makes_of_it(steps: int) -> None:
    from transformers import TrainingArguments

    for ratio in (0.0, 0.03, 0.1, 1.0):
        theirs = TrainingArguments("out", warmup_steps=ratio if ratio < 1 else steps, report_to=[]).get_warmup_steps(steps)
        assert Schedule(warmup_ratio=ratio).warm_up(steps) == theirs


@pytest.mark.parametrize("name", ["linear", "cosine", "wsd", "polynomial", "cosineRestarts"])
def test_the_decay_begins_at_the_peak_and_would_be_at_the_floor_after_the_last_step(name: str) -> None:
    assert learning_rate(training(name, warmup=4), 5, 100) == 1.0
    assert learning_rate(training(name, warmup=4), 101, 100) == pytest.approx(0.1)


@pytest.mark.parametrize("name", NAMES)
def test_a_single_step_is_taken_at_the_peak(name: str) -> None:
    assert learning_rate(training(name, floor=0.0), 1, 1) == 1.0


@pytest.mark.parametrize("name", ["linear", "cosine"])
@pytest.mark.parametrize("warmup", [0, 3])
def test_after_the_warm_up_the_rate_is_that_of_hugging_faces_trainer(name: str, warmup: int) -> None:
    import torch
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=10)
    rates = []
    for _ in range(10):
        rates.append(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()
    ours = [learning_rate(training(name, warmup=warmup, floor=0.0), step, 10) for step in range(1, 11)]
    assert ours[warmup:] == pytest.approx(rates[warmup:])
    assert ours[-1] > 0


@pytest.mark.parametrize("floor", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("warmup", [0, 3])
@pytest.mark.parametrize("name", ["cosine", "wsd"])
def test_the_floor_and_the_last_share_are_those_of_transformers_schedules(name: str, warmup: int, floor: float) -> None:
    import torch
    from transformers.optimization import get_cosine_with_min_lr_schedule_with_warmup, get_wsd_schedule

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    if name == "cosine":
        theirs = get_cosine_with_min_lr_schedule_with_warmup(optimizer, warmup, 20, min_lr_rate=floor)
    else:
        theirs = get_wsd_schedule(optimizer, warmup, 4, num_stable_steps=16 - warmup, decay_type="linear", min_lr_ratio=floor)
    rates = []
    for _ in range(20):
        rates.append(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()
    ours = [learning_rate(training(name, warmup=warmup, floor=floor), step, 20) for step in range(1, 21)]
    assert ours[warmup:] == pytest.approx(rates[warmup:])


def rates_of(theirs: Any, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(theirs.get_last_lr()[0])
        theirs.optimizer.step()
        theirs.step()
    return found


def scheduled(name: str, floor: float = 0.0, **settings: float) -> Training:
    schedule = Schedule.model_validate({"name": name, "min_ratio": floor, **settings})
    return Training(global_batch_size=8, sequence_length=16, max_steps=20, optimizer=Optimizer(learning_rate=1.0), schedule=schedule)


@pytest.mark.parametrize("warmup", [0, 3])
@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_a_polynomial_is_that_of_transformers(power: float, floor: float, warmup: int) -> None:
    import torch
    from transformers.optimization import get_polynomial_decay_schedule_with_warmup

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = rates_of(get_polynomial_decay_schedule_with_warmup(optimizer, warmup, 20, lr_end=floor, power=power), 20)
    chosen = scheduled("polynomial", floor, power=power, warmup_steps=warmup)
    ours = [learning_rate(chosen, step, 20) for step in range(1, 21)]
    assert ours[warmup:] == pytest.approx(theirs[warmup:], abs=1e-15)
    assert ours[:warmup] == pytest.approx(theirs[1 : warmup + 1])


@pytest.mark.parametrize("warmup", [0, 3])
@pytest.mark.parametrize("cycles", [1, 2, 3, 7])
def test_restarts_of_a_cosine_are_those_of_transformers(cycles: int, warmup: int) -> None:
    import torch
    from transformers.optimization import get_cosine_with_hard_restarts_schedule_with_warmup

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = rates_of(get_cosine_with_hard_restarts_schedule_with_warmup(optimizer, warmup, 20, num_cycles=cycles), 20)
    ours = [learning_rate(scheduled("cosineRestarts", cycles=cycles, warmup_steps=warmup), step, 20) for step in range(1, 21)]
    assert ours[warmup:] == pytest.approx(theirs[warmup:], abs=1e-15)


def test_each_cycle_of_a_cosine_starts_at_the_peak_and_falls_to_the_floor() -> None:
    chosen = scheduled("cosineRestarts", 0.25, cycles=4)
    rates = [learning_rate(chosen, step, 80) for step in range(1, 82)]
    assert [rates[first] for first in (0, 20, 40, 60)] == [1.0] * 4
    assert all(0.25 < rates[last] < 0.26 for last in (19, 39, 59, 79)) and rates[80] == 0.25


def test_a_constant_rate_stays() -> None:
    assert learning_rate(training("constant"), 100, 100) == 1.0


def test_linear_and_cosine_are_half_way_down_in_the_middle() -> None:
    assert learning_rate(training("linear", floor=0.0), 51, 100) == pytest.approx(0.5)
    assert learning_rate(training("cosine", floor=0.0), 51, 100) == pytest.approx(0.5)


def test_wsd_stays_at_the_peak_until_its_last_share() -> None:
    assert learning_rate(training("wsd", warmup=4), 81, 100) == 1.0
    assert learning_rate(training("wsd", warmup=4), 91, 100) == pytest.approx(0.55)


@given(st.sampled_from(FALLING), st.integers(0, 50), st.integers(1, 200), st.integers(1, 200))
def test_the_rate_never_leaves_zero_to_peak_and_never_rises_after_the_warm_up(name: str, warmup: int, step: int, target: int) -> None:
    now, later = (learning_rate(training(name, warmup=warmup), at, target) for at in (step, step + 1))
    assert 0.0 < now <= 1.0
    if step > warmup:
        assert later <= now
