"""The agent and the operator account for the time of one run alike."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.operator.life.conftest import NOW, World

from llmtrain_operator.api.job.status import Goodput
from llmtrain_operator.life.attempt import AttemptView
from llmtrain_operator.life.ledger import account
from llmtrain_operator.life.times import text_of
from llmtrain_trainer.agent.telemetry.timeline import Timeline
from llmtrain_trainer.config import Progress
from llmtrain_trainer.config.tables.time_accounts import goodput_of, while_training

COUNTED = ("productive", "recompute", "checkpoint")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Whole seconds that end with a row: from step `first` to step `last`, `blocked` of them by a save."""

    seconds: int
    first: int
    last: int
    blocked: int


def timeline(drawn: list[tuple[int, int, int, int]]) -> list[Stretch]:
    """Stretches that follow each other. A resume goes back by more steps than are done after it: the operator sees it by that.

    No stretch waits for data, which the operator does not tell apart, and one without a step has no save.
    """
    found: list[Stretch] = []
    step = 0
    for seconds, steps, blocked, back in drawn:
        first = step - back if step >= back > steps > 0 else step
        found.append(Stretch(seconds=seconds, first=first, last=first + steps, blocked=blocked if steps else 0))
        step = first + steps
    return found


TIMELINES = st.lists(
    st.tuples(st.integers(1, 50), st.integers(0, 9), st.integers(0, 60), st.sampled_from([0, 0, 3, 12])), min_size=1, max_size=12
).map(timeline)


def progress(time: float, step: int, blocked: int) -> Progress:
    return Progress(
        time=time,
        step=step,
        target_steps=1000,
        consumed_samples=0,
        consumed_tokens=0,
        learning_rate=0.0,
        step_seconds=1.0,
        tokens_per_second=0.0,
        blocked_seconds=blocked,
    )


def by_agent(stretches: list[Stretch]) -> dict[str, float]:
    """Seconds by state in the agent's timeline."""
    spent: defaultdict[str, float] = defaultdict(float)

    def spend(state: str, seconds: float) -> None:
        spent[state] += seconds

    line, now = Timeline(0.0, spend), 0.0
    line.row(progress(0.0, 0, 0))
    for stretch in stretches:
        now += stretch.seconds
        line.starts(stretch.first)
        line.row(progress(now, stretch.last, stretch.blocked))
    return {state: spent[state] for state in COUNTED}


def by_operator(stretches: list[Stretch]) -> Goodput:
    """The operator's account, which observed each row once."""
    w, now, step, goodput = World(), NOW, 0, Goodput(accounted_until=text_of(NOW))
    for stretch in stretches:
        now += stretch.seconds
        row = progress(now, stretch.last, stretch.blocked).model_dump(mode="json", by_alias=True)
        agents = {0: w.agent(progress=row, resumedFromStep=stretch.first)}
        told = goodput.model_dump(mode="json", by_alias=True, exclude_none=True)
        job = w.job(w.status(phase="Running", goodput=told, progress={"step": step}))
        goodput, step = account(AttemptView(w.observed(job=job, agents=agents, now=now))), stretch.last
    return goodput


@settings(max_examples=25)
@given(TIMELINES)
def test_agent_and_operator_book_the_same_seconds(stretches: list[Stretch]) -> None:
    agent, operator = by_agent(stretches), by_operator(stretches)
    rounding = 0.05 * len(stretches) + 1e-6  # the status has tenths of seconds
    assert {state: operator.by_cause.get(state, 0.0) for state in COUNTED} == pytest.approx(agent, abs=rounding)
    assert operator.total_seconds == pytest.approx(sum(stretch.seconds for stretch in stretches), abs=rounding)
    assert operator.ratio == pytest.approx(goodput_of(operator.by_cause), abs=5e-4)


@given(st.floats(0, 1e6), st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), st.floats(0, 1e6), st.floats(0, 1e6))
def test_no_second_of_training_is_lost_or_counted_twice(
    elapsed: float, first: int, last: int, furthest: int, blocked: float, waited: float
) -> None:
    spent = while_training(elapsed, first=first, last=last, furthest=furthest, blocked=blocked, waited=waited)
    assert min(spent.values()) >= 0 and sum(spent.values()) == pytest.approx(elapsed)


def test_time_without_a_step_is_recompute_while_the_next_step_was_done_before() -> None:
    assert while_training(10.0, first=5, last=5, furthest=9)["recompute"] == 10.0
    assert while_training(10.0, first=9, last=9, furthest=9)["productive"] == 10.0


def test_suspended_time_is_no_part_of_goodput() -> None:
    assert goodput_of({"productive": 30.0, "queued": 10.0, "suspended": 60.0}) == 0.75
    assert goodput_of({"suspended": 60.0}) is None
