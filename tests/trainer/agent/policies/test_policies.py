"""What an agent concludes from one look at its ranks, and which policy comes first."""

from __future__ import annotations

from typing import Any

import pytest

from llmtrain_trainer.agent.policies import judge
from llmtrain_trainer.agent.policies.round import Heartbeats, Round
from llmtrain_trainer.config import ExitCode, Heartbeat

RANKS = 2


def states() -> dict[int, str]:
    return {0: "sleeping", 1: "stopped"}


def seen(silence: float = 0.0, **changes: Any) -> Round:
    """Two ranks that train; `silence`: seconds since their last heartbeat."""
    heartbeats = Heartbeats(
        beats=[Heartbeat(rank=rank, pid=100 + rank, step=7, phase="step", time=50.0) for rank in range(RANKS)],
        silences=dict.fromkeys(range(RANKS), silence),
        start_step=3,
        patience=10.0,
        states=states,
    )
    facts: dict[str, Any] = {"node": "node 0", "now": 100.0, "ranks": RANKS, "codes": {}, "fenced": False, "grace_over": False}
    return Round(**facts | {"heartbeats": heartbeats} | changes)


def test_ranks_that_train_are_waited_for() -> None:
    assert judge(seen()).action == "wait"


@pytest.mark.parametrize(
    ("code", "action"), [(0, "leave"), (1, "fail"), (-9, "fail"), (ExitCode.SAVED, "leave"), (ExitCode.DIVERGED, "leave")]
)
def test_the_last_rank_to_end_decides_and_until_then_it_is_waited_for(code: int, action: str) -> None:
    assert judge(seen(codes={1: 0})).action == "wait"
    assert judge(seen(codes={0: code, 1: 0})).action == action


def test_one_failed_rank_is_enough() -> None:
    assert judge(seen(codes={1: 1})).action == "fail"


def test_a_silent_rank_is_blamed_by_the_state_of_its_process() -> None:
    decision = judge(seen(silence=11.0))
    assert decision.action == "restart-hung" and decision.failure is not None
    assert (decision.failure.rank, decision.failure.step, decision.failure.time) == (1, 7, 100.0)
    assert decision.failure.message == "no heartbeat for 11 s in phase step, stacks are in logs/rank-1.log."


@pytest.mark.parametrize(
    ("changes", "action"),
    [
        ({"fenced": True, "codes": {0: 1}}, "end-fenced"),
        ({"codes": {0: 1}, "grace_over": True}, "fail"),
        ({"codes": {0: 0, 1: 0}, "grace_over": True}, "leave"),
        ({"grace_over": True, "silence": 99.0}, "end-unsaved"),
    ],
)
def test_the_first_policy_that_speaks_decides(changes: dict[str, Any], action: str) -> None:
    assert judge(seen(**changes)).action == action
