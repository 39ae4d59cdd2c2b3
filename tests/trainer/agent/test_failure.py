"""From exit codes and last words to the first thing that went wrong, and what follows from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmtrain_trainer.agent.gang.failure import NodeFailure, first_failure, first_of
from llmtrain_trainer.agent.gang.restart_budget import Budget
from llmtrain_trainer.agent.processes import oom_killer
from llmtrain_trainer.config import ExitCode, InPlaceRestarts
from llmtrain_trainer.data.bad_data import BadData, Unreachable
from llmtrain_trainer.run_dir.last_words import classify, write_last_words

PEER = {"kind": "peer", "type": "RuntimeError", "message": "Connection closed by peer [127.0.0.1]:1", "step": 7, "time": 10.0}
CRASH = {"kind": "crash", "type": "KeyError", "message": "'x'", "step": 7, "time": 10.5}


def seen(codes: dict[int, int], words: dict[int, dict[str, Any]], *, oom_killed: bool = False) -> NodeFailure:
    found = first_failure(codes, words, {0: 7, 1: 7, 2: 7}, node="node 0", now=11.0, oom_killed=oom_killed)
    assert found is not None
    return found


def failure(**changes: Any) -> NodeFailure:
    return NodeFailure(**{"kind": "crash", "rank": 1, "node": "node 0", "time": 1.0, "step": 5, "message": "KeyError: 'x'"} | changes)


def test_a_killed_rank_comes_before_the_peers_that_complain_about_it() -> None:
    found = seen({0: 1, 2: 1, 1: -9}, {0: PEER, 2: PEER})
    assert (found.kind, found.rank, found.message) == ("killed", 1, "SIGKILL")


def test_a_silent_death_comes_before_errors_that_nobody_recognises() -> None:
    assert seen({0: 1, 1: -9}, {0: CRASH}).rank == 1


def test_a_rank_with_an_error_of_its_own_comes_before_earlier_complaints_about_peers() -> None:
    assert seen({0: 1, 1: 1}, {0: PEER, 1: CRASH}).rank == 1


def test_sigkill_counts_as_out_of_memory_when_the_kernel_says_so() -> None:
    assert seen({1: -9}, {}, oom_killed=True).kind == "oom"
    assert seen({1: -15}, {}, oom_killed=True).kind == "killed"


def test_a_fault_signal_is_a_crash() -> None:
    assert seen({1: -11}, {}).kind == "crash"


def test_the_cause_is_found_among_the_failures_of_all_nodes() -> None:
    there = failure(kind="peer", node="node 0", time=1.0)
    here = failure(kind="crash", node="node 1", time=2.0)
    found = first_of([there, here])
    assert found is not None and found.node == "node 1"


@pytest.mark.parametrize(
    ("error", "starting", "kind"),
    [
        (MemoryError(), False, "oom"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), False, "oom"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), False, "oom"),
        (ValueError("tp is 3"), True, "config"),
        (ValueError("tp is 3"), False, "crash"),
        (BadData("dataset[0].source", "file:///x", "does not exist", "Give a path that exists"), False, "data"),
        (RuntimeError("[/pytorch/gloo/transport/tcp/pair.cc:537] Connection closed by peer [127.0.0.1]:4433"), False, "peer"),
        (ConnectionResetError("Connection reset by peer"), False, "peer"),
        (KeyError("x"), True, "crash"),
    ],
)
def test_an_error_belongs_to_one_class(error: Exception, starting: bool, kind: str) -> None:
    assert classify(error, starting=starting) == kind


def test_last_words_hold_the_evidence(tmp_path: Path) -> None:
    try:
        raise KeyError("weight")
    except KeyError as error:
        write_last_words(tmp_path / "errors" / "rank-3.json", error, step=12, starting=False)
    words = json.loads((tmp_path / "errors" / "rank-3.json").read_text())
    assert (words["type"], words["step"], words["kind"]) == ("KeyError", 12, "crash")
    assert "test_last_words" in words["traceback"]


def test_the_cause_of_a_wrapped_error_is_what_counts(tmp_path: Path) -> None:
    try:
        try:
            raise MemoryError("4 GiB")
        except MemoryError as cause:
            raise RuntimeError("\n   [Stage 1] failed to run forward:") from cause
    except RuntimeError as error:
        write_last_words(tmp_path / "rank-0.json", error, step=3, starting=False)
    words = json.loads((tmp_path / "rank-0.json").read_text())
    assert (words["kind"], words["type"], words["message"]) == ("oom", "MemoryError", "4 GiB")
    assert "Stage 1" in words["traceback"]


def _said(tmp_path: Path, error: BaseException) -> tuple[str, str]:
    """(kind, message) as the agent reads them of an error that struck before step 1."""
    write_last_words(tmp_path / "prepare.json", error, step=0, starting=True)
    words = json.loads((tmp_path / "prepare.json").read_text())
    return words["kind"], words["message"]


SENTENCE = BadData("dataset[0].source", "file:///a.jsonl row 3", "it is not JSON", "Write one JSON object per line")


def _caused() -> BaseException:
    SENTENCE.__cause__ = json.JSONDecodeError("Expecting value", "x", 0)
    return SENTENCE


def _wrapped() -> BaseException:
    wrapper = RuntimeError("[Stage 1] failed to run forward:")
    wrapper.__cause__ = _caused()
    return wrapper


def _grouped() -> BaseException:
    return ExceptionGroup("several", [KeyError("x"), ExceptionGroup("inner", [_caused()])])


def _while_handling() -> BaseException:
    try:
        try:
            raise _caused()
        finally:
            raise OSError("the file could not be closed either")
    except OSError as error:
        return error


@pytest.mark.parametrize("make", [_caused, _wrapped, _grouped, _while_handling])
def test_a_refusal_keeps_its_sentence_wherever_it_stands_in_the_chain(tmp_path: Path, make: Callable[[], BaseException]) -> None:
    assert _said(tmp_path, make()) == ("data", str(SENTENCE))


def test_a_refusal_that_speaks_of_memory_stays_one(tmp_path: Path) -> None:
    assert _said(tmp_path, BadData("dataset[0].source", "x", "out of memory is what the row says", "Correct it"))[0] == "data"


def test_what_a_later_try_may_mend_is_no_bad_data(tmp_path: Path) -> None:
    kind, message = _said(tmp_path, Unreachable("dataset[0].source", "s3://b/x", ConnectionResetError("connection reset by peer")))
    assert kind == "unreachable"
    assert message.startswith("spec.dataset[0].source is s3://b/x: it could not be reached")


def test_restarts_outside_the_window_do_not_count() -> None:
    budget = Budget(InPlaceRestarts(max=2, window_seconds=100.0))
    times = [0.0, 10.0, 150.0, 160.0, 170.0]
    verdicts = [budget.decide(failure(kind="killed", step=step), now) for step, now in enumerate(times)]
    assert [verdict is None for verdict in verdicts] == [True, True, True, True, False]


def test_the_verdict_of_a_spent_budget_names_the_first_failing_rank() -> None:
    verdict = Budget(InPlaceRestarts(max=0)).decide(failure(kind="killed", rank=3, message="SIGKILL"), 0.0)
    assert verdict is not None
    assert (verdict.exit_code, verdict.reason, verdict.first_failing_rank) == (ExitCode.RANK_FAILED, "RankFailed", 3)
    assert verdict.message == "Rank 3 on node 0 ended by SIGKILL after step 5. The budget of 0 restarts in 86400 s is spent."


def test_the_same_error_at_the_same_step_is_not_tried_a_third_time() -> None:
    budget = Budget(InPlaceRestarts(max=20))
    assert budget.decide(failure(), 0.0) is None
    verdict = budget.decide(failure(time=9.0), 9.0)
    assert verdict is not None and "occurred at the same step" in verdict.message


def test_the_same_error_after_progress_is_tried_again() -> None:
    budget = Budget(InPlaceRestarts(max=20))
    assert budget.decide(failure(step=5), 0.0) is None
    assert budget.decide(failure(step=6), 9.0) is None


def test_kills_from_outside_are_never_the_same_error() -> None:
    budget = Budget(InPlaceRestarts(max=20))
    assert [budget.decide(failure(kind="killed", message="SIGKILL"), float(now)) for now in range(5)] == [None] * 5


@pytest.mark.parametrize(
    ("kind", "code", "reason"),
    [("oom", 12, "OutOfMemory"), ("config", 2, "BadConfig"), ("data", 2, "BadData")],
)
def test_what_a_restart_does_not_mend_ends_at_once(kind: str, code: int, reason: str) -> None:
    verdict = Budget(InPlaceRestarts(max=20)).decide(failure(kind=kind), 0.0)
    assert verdict is not None
    assert (verdict.exit_code, verdict.reason) == (code, reason)


def test_a_hang_without_budget_has_its_own_exit_code() -> None:
    verdict = Budget(InPlaceRestarts(max=0)).decide(failure(kind="hang"), 0.0)
    assert verdict is not None
    assert (verdict.exit_code, verdict.reason) == (ExitCode.HANG, "Hang")


@pytest.mark.parametrize("text", ["low 0\nhigh 0\noom 3\noom_kill 2\n", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"])
def test_the_memory_killers_count_is_read_from_either_cgroup_version(tmp_path: Path, text: str) -> None:
    (tmp_path / "counter").write_text(text)
    assert oom_killer.kills((tmp_path / "missing", tmp_path / "counter")) == 2


def test_restarts_that_get_no_further_wait_ever_longer_and_progress_ends_the_wait() -> None:
    budget, pauses = Budget(InPlaceRestarts(max=100)), []
    for step, number in [(5, 1), (5, 2), (3, 3), (5, 4), (6, 5), (6, 6), *((6, number) for number in range(7, 20))]:
        assert budget.decide(failure(step=step, message=f"error {number}"), float(number)) is None
        pauses.append(budget.pause)
    assert pauses[:6] == [0.0, 1.0, 2.0, 4.0, 0.0, 1.0] and max(pauses) == pauses[-1] == 60.0
