"""The view of the newest attempt: which it is, whether it is over, and which of its nodes count as lost."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtrain_operator.life.attempt import HEARD_WITHIN, LOST_AFTER, UNHEARD_LOST_AFTER, AttemptView
from llmtrain_operator.life.ledger import account
from llmtrain_operator.life.observed import Admission, NotCreated
from llmtrain_operator.life.times import text_of

NOW = 1_800_000_000.0


def view(w: Any, *pods: Any, **changes: Any) -> AttemptView:
    return AttemptView(w.observed(*pods, **changes) if pods else w.nothing(**changes))


def test_pods_are_believed_before_a_status_that_was_restored_from_a_backup(w: Any) -> None:
    gang = view(w, w.pod(0, attempt=7), w.pod(1, attempt=7), job=w.job(w.status(attempt=3)))
    assert gang.number == 7 and gang.next_number == 8 and set(gang.pods) == {0, 1}


def test_pods_of_an_earlier_job_of_the_name_count_for_nothing(w: Any) -> None:
    gang = view(w, w.pod(0, attempt=9, owner="another"), w.pod(0), w.pod(1))
    assert gang.number == 1 and [pod.attempt for pod in gang.earlier] == [9] and len(gang.may_run_now) == 2


def test_a_pod_beyond_the_size_of_the_gang_is_none_of_it(w: Any) -> None:
    gang = view(w, w.pod(0), w.pod(1), w.pod(2))
    assert set(gang.pods) == {0, 1} and gang.missing == ()


@pytest.mark.parametrize(
    ("status", "refused", "number"),
    [
        ({"attempt": None}, False, 1),
        ({"attempt": 4, "endedAttempt": 4}, False, 5),
        ({"attempt": 4, "endedAttempt": 3}, False, 5),
        ({"attempt": 4, "endedAttempt": 3}, True, 4),
        ({"attempt": 4, "endedAttempt": 4}, True, 5),
        ({"attempt": 2, "endedAttempt": 6}, False, 7),
    ],
)
def test_no_number_is_used_twice_except_of_an_attempt_that_never_had_a_pod(
    w: Any, status: dict[str, Any], refused: bool, number: int
) -> None:
    gang = view(w, job=w.job(w.status(**status, pods=None)), not_created=NotCreated(message="no") if refused else None)
    assert gang.next_number == number


@pytest.mark.parametrize(
    ("status", "pods", "over"),
    [
        ({"attempt": 1, "endedAttempt": 1}, 2, True),
        ({"attempt": 1}, 2, False),
        ({"attempt": 1}, 1, False),
        ({"attempt": 1, "pods": {"wanted": 2, "created": 1}}, 0, True),
        ({"attempt": 1, "pods": {"wanted": 2, "created": 2}}, 0, False),
        ({"attempt": 1, "pods": None}, 0, True),
        ({"attempt": None, "pods": None}, 0, True),
    ],
)
def test_an_attempt_is_over_when_it_was_ended_or_never_was_whole(w: Any, status: dict[str, Any], pods: int, over: bool) -> None:
    found = [w.pod(index) for index in range(pods)]
    assert view(w, *found, job=w.job(w.status(**status)), agents={}).over is over


def test_a_gang_whose_agent_trained_was_whole_though_nobody_counted_it(w: Any) -> None:
    job = w.job(w.status(pods=None))
    assert view(w, w.pod(0), job=job, agents={0: w.agent(phase="training")}).was_whole
    assert not view(w, w.pod(0), job=job, agents={0: w.agent(phase="preparing")}).was_whole
    assert not view(w, w.pod(0), job=job, agents={0: w.agent(phase="training", attempt=2)}).was_whole
    earlier = w.job(w.status(attempt=1, pods={"wanted": 2, "created": 2}))
    assert not view(w, w.pod(0, attempt=2), job=earlier, agents={}).was_whole


@pytest.mark.parametrize(
    ("node", "heard", "others", "lost"),
    [
        ({}, None, True, False),
        ({"exists": False}, None, True, True),
        ({"exists": False}, 1.0, True, False),
        ({"out_of_service": True}, 1.0, True, True),
        ({"not_ready_since": NOW - LOST_AFTER}, None, True, True),
        ({"not_ready_since": NOW - LOST_AFTER + 1}, None, True, False),
        ({"not_ready_since": NOW - LOST_AFTER}, HEARD_WITHIN - 1, True, False),
        ({"not_ready_since": NOW - LOST_AFTER}, HEARD_WITHIN, True, True),
        ({"not_ready_since": NOW - LOST_AFTER}, None, False, False),
        ({"not_ready_since": NOW - UNHEARD_LOST_AFTER}, None, False, True),
        ({"not_ready_since": NOW - UNHEARD_LOST_AFTER + 1}, None, False, False),
    ],
)
def test_a_node_is_lost_when_it_is_away_for_long_and_its_silence_proves_something(
    w: Any, node: dict[str, Any], heard: float | None, others: bool, lost: bool
) -> None:
    """`heard`: age of the last answer of the agent there; `others`: whether the agent of the other pod answers."""
    agents = ({0: w.agent()} if others else {}) | ({1: w.agent(nodeRank=1, age=heard)} if heard is not None else {})
    gang = view(w, w.pod(0), w.pod(1), nodes={"node-0": w.node(0), "node-1": w.node(1, **node)}, agents=agents)
    assert gang.lost(gang.pods[1]) is lost and not gang.lost(gang.pods[0])


def test_a_pod_without_a_node_or_on_a_node_that_was_not_read_is_not_lost(w: Any) -> None:
    gang = view(w, w.pending(0, node=None), w.pod(1, node="unread"), nodes={})
    assert not gang.lost(gang.pods[0]) and not gang.lost(gang.pods[1])


@pytest.mark.parametrize(
    ("pod", "may_run"),
    [
        ({}, True),
        ({"deleting": NOW, "grace": 0}, True),
        ({"phase": "Failed"}, True),
        ({"phase": "Failed", "running": False}, False),
        ({"phase": "Succeeded", "running": False}, False),
        ({"exit_code": 1}, False),
        ({"phase": "Pending", "running": False}, True),
    ],
)
def test_a_process_may_run_until_its_pod_is_known_to_have_ended(w: Any, pod: dict[str, Any], may_run: bool) -> None:
    gang = view(w, w.pod(0, **pod), w.pod(1))
    assert gang.may_run(gang.pods[0]) is may_run


@pytest.mark.parametrize(("pod", "may_run"), [({}, True), ({"deleting": NOW, "grace": 30}, True), ({"deleting": NOW, "grace": 0}, False)])
def test_on_a_lost_node_a_pod_counts_as_ended_once_it_was_deleted_by_force(w: Any, pod: dict[str, Any], may_run: bool) -> None:
    gang = view(w, w.pod(0), w.pod(1, **pod), nodes={"node-1": w.node(1, exists=False)})
    assert gang.may_run(gang.pods[1]) is may_run


@pytest.mark.parametrize(
    ("pods", "admission", "since"),
    [
        ([{"placed": NOW - 50}, {"placed": NOW - 20}], None, NOW - 20),
        ([{"placed": NOW - 50}, {"placed": None, "created": NOW - 30}], None, NOW - 30),
        ([{"placed": NOW - 50}, {"node": None}], None, None),
        ([{"placed": NOW - 50}], None, None),
        ([{"placed": NOW - 50}, {"placed": NOW - 20}], Admission(admitted=False), None),
        ([{"placed": NOW - 50}, {"placed": NOW - 20}], Admission(admitted=True, since=NOW - 5), NOW - 5),
        ([{"placed": NOW - 50}, {"placed": NOW - 20}], Admission(admitted=True), NOW - 20),
    ],
)
def test_a_gang_is_placed_since_its_last_pod_has_a_node_and_it_was_admitted(
    w: Any, pods: list[dict[str, Any]], admission: Admission | None, since: float | None
) -> None:
    found = [w.pod(index, **changes) for index, changes in enumerate(pods)]
    assert view(w, *found, admission=admission).placed_since == since


def test_the_speaker_is_node_0_where_it_answers_and_else_the_first_that_does(w: Any) -> None:
    agents = {0: w.agent(age=1.0), 1: w.agent(nodeRank=1, age=2.0)}
    assert view(w, w.pod(0), w.pod(1), agents=agents).speaker is agents[0]
    agents[0] = w.agent(age=HEARD_WITHIN)
    assert view(w, w.pod(0), w.pod(1), agents=agents).speaker is agents[1]
    assert view(w, w.pod(0), w.pod(1), agents={}).speaker is None


@pytest.mark.parametrize(
    ("pod", "complete"),
    [({"exit_code": 0}, True), ({"phase": "Succeeded"}, True), ({"exit_code": 75, "phase": "Succeeded"}, False), ({}, False)],
)
def test_a_job_is_complete_when_node_0_ended_normally(w: Any, pod: dict[str, Any], complete: bool) -> None:
    assert view(w, w.pod(0, **pod), w.pod(1)).complete is complete
    assert not view(w, w.pod(1, **pod)).complete


def test_the_newest_step_is_the_furthest_that_anybody_told_of(w: Any) -> None:
    verdict = {"step": 45, "reason": "RankFailed", "message": "x"}
    told = w.job(w.status(progress={"step": 43}))
    assert view(w, w.pod(0), w.pod(1), job=told).step() == 43
    assert view(w, w.pod(0), w.ended(1, 1, verdict=verdict), job=told).step() == 45
    assert view(w, w.pod(0), w.pod(1), agents={0: w.agent(progress=w.progress(50))}, job=told).step() == 50
    assert view(w, job=w.job(w.status())).step() is None


@given(
    phase=st.sampled_from(["Pending", "Queued", "Starting", "Running", "Restarting", "Suspending", "Suspended"]),
    elapsed=st.integers(0, 100_000),
    step=st.integers(0, 100),
    before=st.integers(0, 100),
    furthest=st.integers(0, 100),
    blocked=st.floats(0, 200),
    silent=st.floats(0, 500),
    doing=st.sampled_from(["training", "restarting", "saving"]),
)
def test_every_second_is_accounted_once_whatever_happened(
    w: Any, phase: str, elapsed: int, step: int, before: int, furthest: int, blocked: float, silent: float, doing: str
) -> None:
    row = w.progress(step, time=NOW - silent, blockedSeconds=blocked)
    goodput = {"accountedUntil": text_of(NOW - elapsed), "highWaterStep": furthest, "byCause": {"queued": 50.0}, "suspendedSeconds": 7.0}
    job = w.job(w.status(phase=phase, goodput=goodput, progress={"step": before}))
    found = account(AttemptView(w.observed(job=job, agents={0: w.agent(phase=doing, progress=row)})))
    assert sum(found.by_cause.values()) + found.suspended_seconds == pytest.approx(57.0 + elapsed, abs=0.5)
    assert all(value >= 0 for value in found.by_cause.values())
    assert found.ratio is None or 0 <= found.ratio <= 1
    assert (found.high_water_step or 0) >= furthest
