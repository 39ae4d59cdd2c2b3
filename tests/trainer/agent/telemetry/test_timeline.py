"""Where the time of a run went: whatever happens, every second is in one state, once."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtrain_trainer.agent.telemetry.timeline import Timeline
from llmtrain_trainer.config import Progress

BEGAN = 1000.0


class Account:
    def __init__(self) -> None:
        self.spent: defaultdict[str, float] = defaultdict(float)
        self.line = Timeline(BEGAN, self._spend)

    def _spend(self, state: str, seconds: float) -> None:
        assert seconds > 0
        self.spent[state] += seconds

    def row(self, time: float, step: int, *, took: float = 1.0, waited: float = 0.0, blocked: float = 0.0) -> None:
        row = Progress(
            time=BEGAN + time,
            step=step,
            target_steps=100,
            consumed_samples=0,
            consumed_tokens=0,
            learning_rate=0.0,
            step_seconds=took,
            tokens_per_second=0.0,
            data_seconds=waited,
            blocked_seconds=blocked,
        )
        self.line.row(row)

    def told(self) -> dict[str, float]:
        return {state: pytest.approx(seconds) for state, seconds in self.spent.items()}


def test_before_the_first_step_a_run_starts_and_a_checkpoint_is_its_own_part() -> None:
    account = Account()
    account.line.restored(7.0)
    account.line.starts(10)
    account.row(30.0, 11, took=2.0)
    assert account.spent == {"restore": 7.0, "starting": 21.0, "productive": 2.0}


def test_more_time_for_a_checkpoint_than_there_was_is_not_invented() -> None:
    account = Account()
    account.line.restored(500.0)
    account.row(30.0, 1, took=2.0)
    assert account.spent == {"restore": 28.0, "productive": 2.0}


def test_waiting_and_saving_are_taken_out_of_what_was_useful() -> None:
    account = Account()
    account.row(1.0, 1)
    account.row(11.0, 6, took=2.0, waited=3.0, blocked=2.0)
    assert account.spent == {"productive": 6.0, "data_wait": 3.0, "checkpoint": 2.0}


def test_steps_that_were_done_before_are_computed_again() -> None:
    account = Account()
    account.row(1.0, 1)
    account.row(10.0, 10)
    account.line.failed(None)
    account.line.starts(4)
    assert account.line.step == 4
    account.row(20.0, 5)
    account.row(28.0, 13, took=1.0)
    assert account.spent == {"productive": 10.0 + 8.0 * 3 / 8, "restart": 9.0, "recompute": 1.0 + 8.0 * 5 / 8}


def test_a_hang_lasts_until_it_was_found() -> None:
    account = Account()
    account.row(1.0, 1)
    account.line.failed(BEGAN + 301.0)
    account.line.starts(1)
    account.row(311.0, 2)
    assert account.spent == {"productive": 2.0, "hung": 300.0, "restart": 9.0}


def test_a_failure_before_the_first_row_is_a_restart_from_then_on() -> None:
    account = Account()
    account.line.failed(None)
    account.row(20.0, 1)
    assert account.spent == {"restart": 19.0, "productive": 1.0}


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("row"), st.floats(-2, 50), st.integers(0, 5), st.floats(0, 60), st.floats(0, 60), st.floats(0, 60)),
        st.tuples(st.just("failed"), st.none() | st.floats(-5, 50)),
        st.tuples(st.just("restored"), st.floats(0, 20)),
    ),
    max_size=12,
)


@given(EVENTS)
def test_all_states_together_are_the_time_that_passed(events: list[tuple[object, ...]]) -> None:
    account, now, step, until = Account(), 0.0, 0, 0.0
    for kind, *facts in events:
        if kind == "row":
            after, steps, took, waited, blocked = facts
            now, step = now + float(str(after)), step + int(str(steps))
            until = max(until, now)
            account.row(now, step, took=float(str(took)), waited=float(str(waited)), blocked=float(str(blocked)))
        elif kind == "failed":
            found = None if facts[0] is None else BEGAN + now + float(str(facts[0]))
            account.line.failed(found)
            until = max(until, found - BEGAN) if found is not None else until
            step = max(0, step - 3)
            account.line.starts(step)
        else:
            account.line.restored(float(str(facts[0])))
    assert sum(account.spent.values()) == pytest.approx(until, abs=1e-6)
