"""The budget of restarts and the wait before each, at the edges of their conditions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.operator.life.policies.table import NOW, view

from llmtrain_operator.api.job import Restarts
from llmtrain_operator.api.job.status import RestartCounts
from llmtrain_operator.life.failures.failure import Failure
from llmtrain_operator.life.policies import restart_budget
from llmtrain_operator.life.times import seconds_of, text_of

FAILURE = Failure(reason="RankFailed", message="Rank 3 failed", time=NOW - 5)


def history(*ages: float, counts: int = 1) -> RestartCounts:
    return RestartCounts.model_validate({"recent": [{"time": text_of(NOW - age), "count": counts} for age in ages]})


@pytest.mark.parametrize(("spent", "refused"), [(2, False), (3, True), (9, True)])
def test_the_budget_of_restarts_is_what_it_says(w: Any, spent: int, refused: bool) -> None:
    spec = w.spec(resilience={"restarts": {"max": 3, "window": "1h"}})
    status = w.status(restarts=history(*([600.0] * spent)).model_dump(by_alias=True))
    gang = view(w.observed(w.ended(1), w.pod(1), job=w.job(status, spec=spec)))
    said = restart_budget.refusal(gang, replace(FAILURE, step=50))
    assert (said is not None) is refused
    if said:
        assert said == ("RestartBudgetSpent", "Rank 3 failed. The budget of 3 restarts in 1h is spent.")
    assert restart_budget.left(gang) == max(0, 3 - spent)


def test_restarts_before_the_window_are_forgiven(w: Any) -> None:
    budget = Restarts(max=3, window="1h")
    assert restart_budget.in_window(history(3599.0, 3601.0, 1.0), NOW, budget) == 2
    assert restart_budget.in_window(history(3599.0, 1.0, counts=4), NOW, budget) == 8


@pytest.mark.parametrize("failure", [replace(FAILURE, charged=False), replace(FAILURE, retryable=False)])
def test_what_is_not_charged_is_always_followed_by_a_restart_and_what_repeats_never(w: Any, failure: Failure) -> None:
    spec = w.spec(resilience={"restarts": {"max": 0, "window": "1h"}})
    said = restart_budget.refusal(view(w.observed(job=w.job(spec=spec))), failure)
    assert said == (None if failure.retryable else ("RankFailed", "Rank 3 failed. A restart will not help."))


@pytest.mark.parametrize(
    ("streak", "interruptions", "ago", "left"),
    [
        (0, 0, 0, 0.0),
        (1, 1, 0, 0.0),
        (2, 0, 0, 10.0),
        (2, 0, 4, 6.0),
        (2, 0, 60, 0.0),
        (3, 0, 0, 20.0),
        (0, 4, 0, 40.0),
        (5, 3, 0, 80.0),
        (50, 0, 0, 300.0),
        (2, 0, -100, 10.0),
    ],
)
def test_the_wait_before_an_attempt_doubles_with_each_failure_in_a_row(
    w: Any, streak: int, interruptions: int, ago: float, left: float
) -> None:
    failure = {"reason": "RankFailed", "message": "x", "attempt": 1, "time": text_of(NOW - ago)}
    status = w.status(endedAttempt=1, failure=failure, restarts={"streak": streak, "interruptions": interruptions})
    assert restart_budget.wait(view(w.nothing(job=w.job(status)))) == left


def test_the_failure_of_an_earlier_attempt_makes_nobody_wait(w: Any) -> None:
    failure = {"reason": "RankFailed", "message": "x", "attempt": 1, "time": text_of(NOW)}
    status = w.status(attempt=2, endedAttempt=2, failure=failure, restarts={"streak": 5})
    assert restart_budget.wait(view(w.nothing(job=w.job(status)))) == 0.0


@pytest.mark.parametrize(("age", "after"), [(599.0, 4), (600.0, 1)])
def test_a_gang_that_ran_for_a_while_begins_a_new_row_of_interruptions(w: Any, age: float, after: int) -> None:
    gang = view(w.observed(*(w.pod(index, started=NOW - age) for index in (0, 1))))
    assert restart_budget.interruptions(gang, replace(FAILURE, charged=False), 3) == after
    assert restart_budget.interruptions(gang, FAILURE, 3) == after - 1
    assert restart_budget.interruptions(gang, None, 3) == 3


def test_a_gang_of_which_one_pod_never_started_was_not_steady(w: Any) -> None:
    gang = view(w.observed(w.pod(0, started=NOW - 9999), w.pod(1, started=None)))
    assert restart_budget.interruptions(gang, replace(FAILURE, charged=False), 3) == 4


@given(ages=st.lists(st.floats(0, 7200), max_size=80), count=st.integers(0, 5))
def test_the_history_of_restarts_loses_none_within_the_window_and_stays_short(ages: list[float], count: int) -> None:
    budget, kept = Restarts(max=3, window="1h"), RestartCounts()
    moments = sorted(NOW - age for age in ages)
    for moment in moments:
        kept = RestartCounts(recent=restart_budget.charge(kept, 1, moment, budget))
    charged = restart_budget.charge(kept, count, NOW, budget)
    assert len(charged) <= 26 and [entry.time for entry in charged] == sorted(entry.time for entry in charged)
    found = sum(entry.count for entry in charged)
    certain = sum(NOW - moment < 3600 - 151 for moment in moments)  # an entry lapses with its first restart
    assert certain + count <= found <= sum(NOW - moment < 3601 for moment in moments) + count


def test_restarts_close_together_are_one_entry_with_the_time_of_the_first() -> None:
    budget = Restarts(max=3, window="24m")
    (one,) = restart_budget.charge(history(59.0), 2, NOW, budget)
    assert one.count == 3 and seconds_of(one.time) == NOW - 59
    assert [entry.count for entry in restart_budget.charge(history(60.0), 2, NOW, budget)] == [1, 2]
    assert restart_budget.charge(history(60.0), 0, NOW, budget) == history(60.0).recent


@pytest.mark.parametrize(("said", "counted", "new"), [(0, 0, 0), (3, 0, 3), (3, 1, 2), (1, 3, 0)])
def test_restarts_in_place_are_counted_once_however_many_nodes_tell_of_them(w: Any, said: int, counted: int, new: int) -> None:
    agents = {0: w.agent(restarts=said), 1: w.agent(restarts=max(0, said - 1))}
    gang = view(w.observed(job=w.job(w.status(restarts={"attemptInPlace": counted})), agents=agents))
    assert restart_budget.new_in_place(gang) == new
    text = restart_budget.said_in_place(gang)
    assert (text is None) == (new == 0) and ("the last of" in (text or "")) == (new > 1)
