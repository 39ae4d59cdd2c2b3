"""The table of reasons: every end of an agent is told apart by its code, and a code alone is read in the safe way."""

from __future__ import annotations

from typing import get_args

import pytest

from llmtrain_trainer.config import ExitCode, Verdict
from llmtrain_trainer.config.tables.failures import (
    FAILURES,
    RANK_FAILURES,
    RESTARTED,
    RankFailureKind,
    consequences,
    reason_of,
    verdict_for,
)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1, "AgentFailed"),
        (2, "BadConfig"),
        (12, "OutOfMemory"),
        (65, "Diverged"),
        (73, "Fenced"),
        (74, "StoreUnreachable"),
        (75, "Saved"),
        (124, "Hang"),
        (143, "StoppedUnsaved"),
        (99, "AgentFailed"),
        (-9, "AgentFailed"),
        (255, "AgentFailed"),
    ],
)
def test_a_code_without_a_verdict_stands_for_one_reason(code: int, reason: str) -> None:
    assert reason_of(code) == reason


def test_every_code_of_an_agent_but_success_has_its_reason() -> None:
    assert {row.exit_code for row in FAILURES.values()} - {None} == set(ExitCode) - {ExitCode.DONE}


@pytest.mark.parametrize(
    ("reason", "code", "retryable", "charged"),
    [
        ("BadData", 2, False, True),
        ("BadData", 1, True, True),
        ("Saved", 75, True, False),
        ("Saved", 2, False, True),
        ("Invented", 75, True, False),
        ("Invented", 1, True, True),
        ("DestinationInUse", 73, True, False),
        ("Fenced", 73, True, True),
        ("OutOfMemory", 12, False, True),
        ("NodeLost", 1, True, True),
    ],
)
def test_where_reason_and_code_do_not_belong_together_the_code_counts(reason: str, code: int, retryable: bool, charged: bool) -> None:
    row = consequences(reason, code)
    assert (row.retryable, row.charged) == (retryable, charged)


def test_an_end_that_no_restart_mends_is_never_for_free_and_says_what_to_do() -> None:
    for reason, row in FAILURES.items():
        assert row.remedy.endswith(".") or "`" in row.remedy, reason
        assert row.retryable or row.charged, reason
        assert not (row.graceful and row.repeats), reason


def test_a_verdict_carries_the_code_of_its_reason_unless_another_is_given() -> None:
    assert verdict_for("Hang", "x", step=4) == Verdict(exit_code=124, reason="Hang", message="x", step=4)
    assert verdict_for("BadData", "x", code=ExitCode.RANK_FAILED).exit_code == 1
    with pytest.raises(AssertionError):
        verdict_for("NodeLost", "x")
    with pytest.raises(KeyError):
        verdict_for("Invented", "x")


def test_each_kind_of_a_rank_s_failure_ends_in_a_reason_of_an_agent() -> None:
    assert set(RANK_FAILURES) == set(get_args(RankFailureKind))
    for kind, row in RANK_FAILURES.items():
        assert FAILURES[row.reason].exit_code is not None, kind
        assert row.said.format(step=3, message="m").count("m") >= 1, kind


def test_ranks_start_again_only_after_what_a_restart_may_mend() -> None:
    assert set(RESTARTED) == {"crash", "killed", "unreachable", "hang", "peer"}


def test_of_failures_at_once_the_cause_is_told_before_its_consequences() -> None:
    ordered = sorted(RANK_FAILURES, key=lambda kind: RANK_FAILURES[kind].order)
    assert ordered[:2] == ["oom", "killed"] and ordered[-1] == "peer"
