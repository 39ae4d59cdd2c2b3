"""The account of time: what each second is booked as, and that every second is booked once."""

from __future__ import annotations

from typing import Any

import pytest

from llmtrain_operator.life.attempt import AttemptView
from llmtrain_operator.life.ledger import account, active_seconds

SINCE = {"accountedUntil": "2027-01-15T07:58:20Z"}  # 100 s before now


def booked(w: Any, goodput: dict[str, Any] | None = None, agents: dict[int, Any] | None = None, **status: Any) -> dict[str, float]:
    seen = w.observed(
        job=w.job(w.status(**({"goodput": SINCE | (goodput or {})} | status))), **({} if agents is None else {"agents": agents})
    )
    return account(AttemptView(seen)).by_cause


@pytest.mark.parametrize(
    ("phase", "attempt", "cause"),
    [
        ("Pending", None, "queued"),
        ("Queued", 1, "queued"),
        ("Starting", 1, "starting"),
        ("Starting", 2, "restart"),
        ("Restarting", 1, "restart"),
        ("Running", 1, "productive"),
        ("Suspending", 1, "checkpoint"),
    ],
)
def test_time_is_booked_on_the_state_that_it_began_in(w: Any, phase: str, attempt: int | None, cause: str) -> None:
    assert booked(w, phase=phase, attempt=attempt) == {cause: 100.0}


def test_suspended_time_is_kept_apart(w: Any) -> None:
    goodput = account(AttemptView(w.nothing(job=w.job(w.status(phase="Suspended", goodput=SINCE)))))
    assert (goodput.total_seconds, goodput.suspended_seconds, goodput.by_cause) == (0.0, 100.0, {})


def test_steps_that_were_done_before_are_recomputed(w: Any) -> None:
    agents = {0: w.agent(attempt=1, progress=w.progress(40), resumedFromStep=20)}
    spent = booked(w, {"highWaterStep": 30}, agents, progress={"step": 20})
    assert spent == {"productive": 50.0, "recompute": 50.0}


def test_steps_after_a_resume_count_from_the_checkpoint(w: Any) -> None:
    agents = {0: w.agent(progress=w.progress(25), resumedFromStep=20)}
    assert booked(w, {"highWaterStep": 30}, agents, progress={"step": 30}) == {"recompute": 100.0}


def test_time_that_a_checkpoint_takes_is_its_own(w: Any) -> None:
    agents = {0: w.agent(progress=w.progress(41, blockedSeconds=4.0))}
    assert booked(w, {"highWaterStep": 40}, agents, progress={"step": 40}) == {"checkpoint": 4.0, "productive": 96.0}


def test_a_gang_that_makes_no_step_for_long_hangs(w: Any) -> None:
    agents = {0: w.agent(progress=w.progress(40, time=w.now - 70))}
    assert booked(w, None, agents, progress={"step": 40}) == {"hung": 70.0, "productive": 30.0}


def test_ranks_that_start_again_train_until_their_last_step_and_no_longer(w: Any) -> None:
    agents = {0: w.agent(phase="restarting", progress=w.progress(40, time=w.now - 25))}
    assert booked(w, None, agents, progress={"step": 30}) == {"restart": 25.0, "productive": 75.0}


def test_goodput_is_the_share_of_productive_time(w: Any) -> None:
    before = {"byCause": {"queued": 200.0, "restart": 100.0}}
    goodput = account(AttemptView(w.observed(job=w.job(w.status(goodput=SINCE | before)))))
    assert (goodput.total_seconds, goodput.ratio) == (400.0, 0.25)


def test_the_first_look_books_from_the_jobs_creation(w: Any) -> None:
    assert account(AttemptView(w.nothing(job=w.job(w.status(phase=None))))).by_cause == {"queued": 3600.0}


def test_a_clock_that_was_set_back_books_nothing(w: Any) -> None:
    late = {"accountedUntil": "2027-01-15T09:00:00Z", "byCause": {"starting": 10.0}}
    goodput = account(AttemptView(w.observed(job=w.job(w.status(phase="Starting", goodput=late)))))
    assert goodput.by_cause == {"starting": 10.0}
    assert goodput.accounted_until == "2027-01-15T09:00:00Z"


def test_gpu_hours_are_those_of_pods_that_hold_a_node(w: Any) -> None:
    spec = w.spec(resources={"nodes": 2, "gpusPerNode": 8, "gpu": "H100-80GB"})
    job = w.job(w.status(phase="Starting", goodput={"accountedUntil": "2027-01-15T07:00:00Z"}), spec)
    half = account(AttemptView(w.observed(w.pod(0), w.pending(1, node=None), job=job)))
    assert (half.gpu_hours, half.gpu_hours_by_cause) == (8.0, {"starting": 8.0})
    assert account(AttemptView(w.nothing(job=job))).gpu_hours is None


@pytest.mark.parametrize(("phase", "seconds"), [("Running", 400.0), ("Starting", 400.0), ("Restarting", 400.0), ("Queued", 300.0)])
def test_active_time_leaves_the_queue_out_and_counts_to_this_moment(w: Any, phase: str, seconds: float) -> None:
    old = {"totalSeconds": 500.0, "byCause": {"queued": 200.0, "productive": 300.0}}
    for goodput in (SINCE | old, SINCE | old | {"activeSeconds": 300.0}):
        assert active_seconds(w.status(phase=phase, goodput=goodput), w.now) == seconds
        assert account(AttemptView(w.observed(job=w.job(w.status(phase=phase, goodput=goodput))))).active_seconds == seconds


def test_active_time_begins_anew_when_a_job_was_suspended(w: Any) -> None:
    """As that of a Job: time before the suspension no longer counts, and the account of all time goes on."""
    suspended = w.status(phase="Suspended", goodput=SINCE | {"byCause": {"productive": 5000.0}, "activeSeconds": 5000.0})
    assert active_seconds(suspended, w.now) == 0.0, "nor at the look that takes it up again"
    goodput = account(AttemptView(w.nothing(job=w.job(suspended))))
    assert (goodput.active_seconds, goodput.total_seconds) == (0.0, 5000.0)
