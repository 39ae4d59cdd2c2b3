"""How pods are ended: which, how urgently, each once; and what is tidied up behind attempts that are over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.operator.life.policies.table import NOW

from llmtrain_operator.life.attempt import AttemptView
from llmtrain_operator.life.decision import Action, Decision, Deletion
from llmtrain_operator.life.observed import Observed, Pod
from llmtrain_operator.life.policies.stopping import FAILED_GRACE, HELD_LOOK, HELD_PATIENCE, deletions, ended_as, stopping, tidied

SAID = Decision(phase="Restarting", reason="Why", message="It ends.")


def asked(told: tuple[Deletion, ...]) -> dict[str, float | None]:
    return {each.name: each.grace for each in told}


def lost_node(w: Any) -> dict[str, Any]:
    return {"node-0": w.node(0), "node-1": w.node(1, exists=False)}


# ---- deletions -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pod", "grace", "told"),
    [
        ({}, None, True),
        ({}, 10.0, True),
        ({"deleting": NOW, "grace": 300}, None, False),
        ({"deleting": NOW, "grace": 300}, 10.0, True),
        ({"deleting": NOW, "grace": 10}, 10.0, False),
        ({"deleting": NOW, "grace": 5}, 10.0, False),
        ({"deleting": NOW, "grace": None}, 10.0, False),
    ],
)
def test_a_pod_is_told_to_end_once_and_again_only_if_it_must_hurry(w: Any, pod: dict[str, Any], grace: float | None, told: bool) -> None:
    gang = AttemptView(w.observed())
    assert asked(deletions(gang, (w.pod(0, **pod),), grace)) == ({"demo-a1-0": grace} if told else {})


def test_pods_on_a_lost_node_are_ended_by_force_and_the_others_gracefully(w: Any) -> None:
    gang = AttemptView(w.observed(nodes=lost_node(w), agents={0: w.agent()}))
    said = stopping(gang, SAID, 30.0)
    assert said.action is Action.DELETE_PODS and asked(said.delete) == {"demo-a1-1": 0.0, "demo-a1-0": 30.0}
    assert {each.uid for each in said.delete} == {"uid-1-0", "uid-1-1"}


def test_a_decision_that_leaves_nobody_to_tell_stays_as_it_is(w: Any) -> None:
    assert stopping(AttemptView(w.observed(w.ended(0), w.ended(0, 1))), SAID, 30.0) == SAID
    told = [w.pod(index, deleting=NOW, grace=30) for index in (0, 1)]
    assert stopping(AttemptView(w.observed(*told)), SAID, 30.0) == SAID


# ---- final states ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phase", "conditions", "final"),
    [
        ("Complete", {}, "Complete"),
        ("Failed", {}, "Failed"),
        ("Running", {}, None),
        ("Running", {"Complete": "True"}, "Complete"),
        ("Running", {"Failed": "True"}, "Failed"),
        ("Running", {"Complete": "False", "Failed": "Unknown"}, None),
        ("Pending", {"Planned": "True"}, None),
        ("Failed", {"Complete": "True"}, "Complete"),
    ],
)
def test_a_final_state_is_known_by_phase_or_condition(w: Any, phase: str, conditions: dict[str, str], final: str | None) -> None:
    written = [
        {"type": kind, "status": status, "reason": "R", "lastTransitionTime": "2027-01-15T07:00:00Z"} for kind, status in conditions.items()
    ]
    assert ended_as(AttemptView(w.nothing(job=w.job(w.status(phase=phase, conditions=written))))) == final


# ---- tidying ---------------------------------------------------------------------------------------------------------------


def held(w: Any, index: int = 0, ago: float = 0.0, **changes: Any) -> Pod:
    """A pod whose trainer ended `ago` seconds before, and that did not end with it."""
    pod: Pod = w.ended(1, index, **({"phase": "Running", "finished": NOW - ago} | changes))
    return pod


def over(w: Any, *pods: Pod, **status: Any) -> Observed:
    seen: Observed = w.nothing(job=w.job(w.status(**({"phase": "Restarting", "endedAttempt": 1} | status))), pods=pods)
    return seen


def tidy(observed: Observed, said: Decision = SAID) -> Decision:
    return tidied(AttemptView(observed), said)


def test_a_pod_in_which_another_container_runs_is_deleted_and_the_container_named(w: Any) -> None:
    said = tidy(over(w, held(w, beside=("istio-proxy",))))
    assert said.action is Action.DELETE_PODS and asked(said.delete) == {"demo-a1-0": FAILED_GRACE}
    assert said.held == (
        "Pod demo-a1-0: the trainer has ended, but istio-proxy still runs and keeps the devices: the pod is deleted, with its logs."
    )
    assert said.again_in == HELD_LOOK


@pytest.mark.parametrize(("ago", "deleted"), [(HELD_PATIENCE - 1, False), (HELD_PATIENCE, True)])
def test_a_pod_that_is_not_known_to_be_held_has_time_to_end_by_itself(w: Any, ago: float, deleted: bool) -> None:
    said = tidy(over(w, held(w, ago=ago)))
    assert bool(said.delete) is deleted and said.again_in == HELD_LOOK
    assert (said.held is None) is not deleted and "another container still runs" in (said.held or "another container still runs")


def test_several_held_pods_are_told_as_the_first_and_how_many_more(w: Any) -> None:
    said = tidy(over(w, held(w, 0, beside=("proxy",)), held(w, 1, beside=("proxy", "agent"))))
    assert said.held is not None and said.held.startswith("Pod demo-a1-0 and 1 more: the trainer has ended, but agent, proxy still runs")


@pytest.mark.parametrize(
    ("late", "grace", "told"),
    [
        (HELD_PATIENCE, 10, {}),
        (HELD_PATIENCE + 1, 10, {"demo-a1-0": 0.0}),
        (HELD_PATIENCE + 1, 0, {}),
        (5.0, 300, {"demo-a1-0": FAILED_GRACE}),
    ],
    ids=["in time", "overdue", "by force already", "too slowly"],
)
def test_a_held_pod_that_outlives_its_grace_period_is_deleted_by_force_once(
    w: Any, late: float, grace: int, told: dict[str, float]
) -> None:
    said = tidy(over(w, held(w, beside=("proxy",), deleting=NOW - late, grace=grace)))
    assert asked(said.delete) == told and (said.held is not None) == bool(told)


def test_the_pods_of_an_attempt_that_goes_on_are_left_alone(w: Any) -> None:
    said = tidy(w.observed(held(w, ago=1000, beside=("proxy",)), w.pod(1)), replace(SAID, phase="Running"))
    assert said.delete == () and said.held is None and said.again_in is None and said.clears == 0


def test_a_decision_that_ends_the_attempt_tidies_it_at_once(w: Any) -> None:
    said = tidy(w.observed(held(w, beside=("proxy",)), w.ended(0, 1)), replace(SAID, ends=1))
    assert asked(said.delete) == {"demo-a1-0": FAILED_GRACE}


def test_what_a_decision_deletes_already_is_not_deleted_twice(w: Any) -> None:
    own = Deletion(name="demo-a1-0", uid="uid-1-0", grace=0.0)
    said = tidy(over(w, held(w, beside=("proxy",))), replace(SAID, action=Action.DELETE_PODS, delete=(own,)))
    assert said.delete == (own,)


def test_tidying_changes_no_other_action(w: Any) -> None:
    create = replace(SAID, action=Action.CREATE, attempt=2, create=(0, 1))
    said = tidy(over(w, held(w, beside=("proxy",))), create)
    assert said.action is Action.CREATE and said.create == (0, 1) and asked(said.delete) == {"demo-a1-0": FAILED_GRACE}
    alone = replace(SAID, action=Action.LEAVE_ALONE)
    assert tidy(over(w, held(w, beside=("proxy",))), alone) is alone


@pytest.mark.parametrize("phase", ["Complete", "Failed", "Suspended"])
def test_while_a_job_is_at_rest_only_the_newest_attempt_keeps_its_logs(w: Any, phase: Any) -> None:
    pods = (w.ended(1, 0, attempt=1), w.ended(1, 1, attempt=1), w.ended(0, 0, attempt=2))
    said = tidy(over(w, *pods, attempt=2, endedAttempt=2), replace(SAID, phase=phase))
    assert sorted(asked(said.delete)) == ["demo-a1-0", "demo-a1-1"]


@pytest.mark.parametrize("phase", ["Running", "Restarting", "Pending", "Queued"])
def test_while_it_may_go_on_the_logs_of_earlier_attempts_stay(w: Any, phase: Any) -> None:
    said = tidy(over(w, w.ended(1, 0, attempt=1), w.ended(0, 0, attempt=2), attempt=2, endedAttempt=2), replace(SAID, phase=phase))
    assert said.delete == ()


def test_a_job_at_rest_with_a_pod_that_may_run_keeps_everything(w: Any) -> None:
    pods = (w.ended(1, 0, attempt=1), w.pod(0, attempt=2))
    said = tidy(over(w, *pods, attempt=2, endedAttempt=2), replace(SAID, phase="Failed"))
    assert said.delete == () and said.clears == 0


@pytest.mark.parametrize(("stored", "ends", "clears"), [(None, None, 0), (2, None, 2), (2, 3, 3), (3, 2, 3)])
def test_objects_of_attempts_that_are_over_can_be_cleared(w: Any, stored: int | None, ends: int | None, clears: int) -> None:
    said = tidy(over(w, attempt=3, endedAttempt=stored), replace(SAID, ends=ends))
    assert said.clears == clears


@pytest.mark.parametrize(("own", "again"), [(None, HELD_LOOK), (5.0, 5.0), (100.0, HELD_LOOK)])
def test_lingering_pods_are_looked_at_soon_and_no_later_than_the_decision_wants(w: Any, own: float | None, again: float) -> None:
    assert tidy(over(w, held(w)), replace(SAID, again_in=own)).again_in == again
    assert tidy(over(w, w.ended(1)), replace(SAID, again_in=own)).again_in == own
