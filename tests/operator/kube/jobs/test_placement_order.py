"""Whose turn it is, as the operator remembers it between reconciles."""

from __future__ import annotations

from typing import Any

from llmtrain_operator.kube.jobs.placement_order import Turns
from llmtrain_operator.life.decision import Action, Decision
from llmtrain_operator.life.from_objects import job_of
from llmtrain_operator.life.observed import Observed

FIRST, SECOND = ("team", "first"), ("team", "second")
CREATE = Decision(action=Action.CREATE, phase="Starting", reason="CreatingPods", message="", attempt=1, create=(0, 1))
WAIT = Decision(phase="Queued", reason="GangOrder", message="")
FAIL = Decision(phase="Failed", reason="DeadlineExceeded", message="", ends=1)


def seen(key: tuple[str, str], gang: Any = "operator", nodes: int = 2, **status: Any) -> Observed:
    training = {"globalBatchSize": 8, "sequenceLength": 64, "maxSteps": 1}
    spec = {
        "model": {"source": "hf://acme/tiny"},
        "dataset": [{"source": "hf://acme/text"}],
        "training": training,
        "resources": {"nodes": nodes},
    }
    envelope = {"apiVersion": "llmtrain.io/v1alpha1", "kind": "LLMTrainJob", "spec": spec, "status": status}
    return Observed(now=100.0, job=job_of({**envelope, "metadata": {"namespace": key[0], "name": key[1], "uid": key[1]}}), gang=gang)


def test_a_gang_that_is_about_to_be_created_holds_the_turn_before_its_pods_are_seen() -> None:
    turns = Turns(lambda _: None)
    turns.note(FIRST, seen(FIRST), CREATE)
    assert [(rival.key, rival.placing) for rival in turns.others(SECOND)] == [("team/first", True)]
    assert turns.others(FIRST) == ()


def test_who_has_the_turn_looks_when_another_begins_to_wait_and_that_one_when_the_turn_is_given_back() -> None:
    added: list[tuple[str, str]] = []
    turns = Turns(added.append)
    turns.note(FIRST, seen(FIRST), CREATE)
    turns.note(SECOND, seen(SECOND), WAIT)
    turns.note(SECOND, seen(SECOND), WAIT)
    assert added == [FIRST]
    added.clear()
    turns.note(FIRST, seen(FIRST, phase="Failed"), FAIL)
    assert added == [SECOND] and turns.others(SECOND) == ()


def test_a_gang_is_awaited_while_it_is_placed_and_another_waits() -> None:
    turns = Turns(lambda _: None)
    turns.note(FIRST, seen(FIRST), CREATE)
    assert not turns.awaited(FIRST)
    turns.note(SECOND, seen(SECOND), WAIT)
    assert turns.awaited(FIRST) and not turns.awaited(SECOND)
    turns.note(FIRST, seen(FIRST, phase="Failed"), FAIL)
    assert not turns.awaited(FIRST)


def test_a_job_that_is_gone_gives_its_turn_back() -> None:
    added: list[tuple[str, str]] = []
    turns = Turns(added.append)
    turns.note(FIRST, seen(FIRST), CREATE)
    turns.note(SECOND, seen(SECOND), WAIT)
    added.clear()
    turns.forget(FIRST)
    assert added == [SECOND]


def test_a_job_of_one_pod_takes_no_turn() -> None:
    turns = Turns(lambda _: None)
    turns.note(FIRST, seen(FIRST, nodes=1), CREATE)
    assert turns.others(SECOND) == ()


def test_a_gang_of_which_no_pod_was_let_in_has_no_turn() -> None:
    turns = Turns(lambda _: None)
    turns.note(FIRST, seen(FIRST), CREATE)
    turns.note(FIRST, seen(FIRST, attempt=1))
    assert turns.others(SECOND) == ()


def test_the_turn_goes_round_the_namespaces() -> None:
    turns, more, elsewhere = Turns(lambda _: None), ("team", "third"), ("other", "late")
    turns.note(FIRST, seen(FIRST), CREATE)
    for waits in (SECOND, more, elsewhere):
        turns.note(waits, seen(waits), WAIT)
    turns.forget(FIRST)
    assert [rival.key for rival in turns.others(SECOND)] == ["other/late"]
    assert [rival.key for rival in turns.others(elsewhere)] == ["team/second"]


def test_a_gang_that_a_scheduler_admits_takes_no_turn() -> None:
    turns = Turns(lambda _: None)
    turns.note(FIRST, seen(FIRST, gang="kueue"), CREATE)
    assert turns.others(SECOND) == ()


def test_only_the_first_in_line_is_woken_and_the_next_one_where_it_gives_up() -> None:
    added: list[tuple[str, str]] = []
    turns, third = Turns(added.append), ("team", "third")
    turns.note(FIRST, seen(FIRST), CREATE)
    turns.note(SECOND, seen(SECOND), WAIT)
    turns.note(third, seen(third), WAIT)
    added.clear()
    turns.forget(FIRST)
    assert added == [SECOND]
    turns.forget(SECOND)
    assert added == [SECOND, third]


def test_nobody_is_woken_while_another_gang_is_being_placed() -> None:
    added: list[tuple[str, str]] = []
    turns, third = Turns(added.append), ("team", "third")
    turns.note(FIRST, seen(FIRST), CREATE)
    turns.note(SECOND, seen(SECOND), CREATE)
    turns.note(third, seen(third), WAIT)
    added.clear()
    turns.forget(FIRST)
    assert third not in added
    turns.forget(SECOND)
    assert third in added


def test_a_job_that_is_suspended_while_it_waits_holds_up_nobody() -> None:
    """Its status still says that it waits when the decision is made, and nobody looks again before long."""
    turns, queued = (
        Turns(lambda _: None),
        {"type": "Queued", "status": "True", "reason": "GangOrder", "lastTransitionTime": "1970-01-01T00:00:10Z"},
    )
    turns.note(FIRST, seen(FIRST, phase="Queued", conditions=[queued]), WAIT)
    assert turns.others(SECOND) != ()
    turns.note(FIRST, seen(FIRST, phase="Queued", conditions=[queued]), Decision(phase="Suspended", reason="Suspended", message=""))
    assert turns.others(SECOND) == ()
