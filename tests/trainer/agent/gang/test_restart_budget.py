"""Restarts in place: never more than the budget within its window, whatever fails, and never for what they do not mend."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtrain_trainer.agent.gang.failure import NodeFailure
from llmtrain_trainer.agent.gang.restart_budget import LONGEST_PAUSE, Budget
from llmtrain_trainer.config import InPlaceRestarts


def failure(step: int = 1, **changes: Any) -> NodeFailure:
    facts: dict[str, Any] = {"kind": "killed", "rank": 3, "node": "n", "time": 0.0, "message": "SIGKILL", **changes}
    return NodeFailure(step=step, **facts)


@given(st.integers(0, 4), st.integers(1, 50), st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9)), max_size=25))
def test_no_window_holds_more_restarts_than_the_budget(most: int, window: int, failures: list[tuple[int, int]]) -> None:
    budget, now, granted = Budget(InPlaceRestarts(max=most, window_seconds=window)), 0.0, list[float]()
    for after, step in failures:
        now += after
        if budget.decide(failure(step), now) is None:
            granted.append(now)
            assert sum(now - window < time <= now for time in granted) <= most
        else:
            assert sum(now - window < time <= now for time in granted) == most, "it is refused only where the budget is spent"
    assert budget.spent == len(granted)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=20))
def test_the_pause_doubles_while_training_gets_no_further_and_is_bounded(steps: list[int]) -> None:
    budget, furthest, streak = Budget(InPlaceRestarts(max=100)), -1, 0
    for step in steps:
        budget.decide(failure(step), 0.0)
        streak = 0 if step > furthest else streak + 1
        furthest = max(furthest, step)
        assert budget.pause == (min(LONGEST_PAUSE, 2.0 ** (streak - 1)) if streak else 0.0)


@pytest.mark.parametrize("kind", ["oom", "config", "data"])
def test_what_a_restart_does_not_mend_costs_none_of_the_budget(kind: str) -> None:
    budget = Budget(InPlaceRestarts(max=5))
    verdict = budget.decide(failure(kind=kind), 0.0)
    assert verdict is not None and verdict.message.endswith("A restart will not help.") and budget.spent == 0


@pytest.mark.parametrize(
    ("change", "ends"),
    [({}, True), ({"step": 2}, False), ({"rank": 4}, False), ({"message": "y"}, False), ({"kind": "hang"}, False), ({"node": "m"}, True)],
)
def test_only_the_same_error_of_the_same_rank_at_the_same_step_ends_it(change: dict[str, Any], ends: bool) -> None:
    budget, facts = Budget(InPlaceRestarts(max=5)), {"kind": "crash", "message": "x", "step": 1}
    assert budget.decide(failure(**facts), 0.0) is None
    verdict = budget.decide(failure(**facts | change), 1.0)
    assert (verdict is not None) is ends
    if verdict is not None:
        assert (verdict.first_failing_rank, verdict.step, verdict.restarts) == (3, 1, 1)
        assert (
            verdict.message == f"Rank 3 on {verdict.node} failed after step 1: x. The same error occurred at the same step after a restart."
        )


def test_another_error_between_two_of_the_same_makes_them_no_repetition() -> None:
    budget = Budget(InPlaceRestarts(max=5))
    for message in ("x", "y", "x"):
        assert budget.decide(failure(kind="crash", message=message), 0.0) is None


def test_no_restart_at_all_may_be_asked_for() -> None:
    verdict = Budget(InPlaceRestarts(max=0)).decide(failure(), 0.0)
    assert verdict is not None and "The budget of 0 restarts in 86400 s is spent." in verdict.message
