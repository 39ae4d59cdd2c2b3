"""Single policies at the edges of their conditions: the moment before, the moment itself, and whom their sentence names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.operator.life.policies.table import FRESH, NOW, view, waiting

from llmtrain_operator.life.decision import Action
from llmtrain_operator.life.destinations import Contender
from llmtrain_operator.life.observed import NotCreated
from llmtrain_operator.life.policies import contention, ended, failed, starting
from llmtrain_operator.life.times import text_of

OTHER = Contender(
    name="team/other", field="output.destination", place="s3://exports/x", because="each job would replace what the other stores"
)
PLANNED = {"type": "Planned", "status": "True", "reason": "Fits", "lastTransitionTime": "2027-01-15T07:00:00Z"}
CHECKPOINT = {"step": 40, "name": "step-00000040-a1-r0", "uri": "s3://checkpoints/demo/step-40", "time": "2027-01-15T07:59:00Z"}


# ---- destinations ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "spec", "writes"),
    [
        (FRESH, {}, False),
        ({"phase": "Restarting", "endedAttempt": 1}, {}, True),
        ({"phase": "Queued", "endedAttempt": 1}, {}, False),
        ({"phase": "Queued", "endedAttempt": 1, "checkpoint": CHECKPOINT}, {}, True),
        ({"phase": "Queued", "endedAttempt": 1, "checkpoint": CHECKPOINT}, {"suspend": True}, False),
        ({"phase": "Complete", "endedAttempt": 1, "checkpoint": CHECKPOINT}, {}, False),
        ({"phase": "Failed", "endedAttempt": 1, "checkpoint": CHECKPOINT}, {}, False),
        ({"phase": "Restarting", "endedAttempt": 1, "failure": {"reason": "StartupDeadline", "message": "x"}}, {}, False),
        ({"phase": "Queued", "endedAttempt": 1, "failure": {"reason": "RankFailed", "message": "x"}}, {}, True),
    ],
    ids=["new", "restarting", "gave way", "saved once", "suspended", "complete", "failed", "never started", "failed once"],
)
def test_a_job_without_pods_keeps_its_destination_only_while_it_may_write_there_again(
    w: Any, status: dict[str, Any], spec: dict[str, Any], writes: bool
) -> None:
    observed = w.nothing(job=w.job(w.status(**status), spec=w.spec(**spec)))
    assert contention.writes(observed) is writes


def test_pods_write_from_the_moment_they_have_a_node_whatever_else_is_so(w: Any) -> None:
    ended_job = w.job(w.status(phase="Complete"))
    assert contention.writes(w.observed(job=ended_job))
    assert not contention.writes(waiting(w)) and contention.asks_to_write(waiting(w))
    assert not contention.asks_to_write(w.nothing())


def test_a_job_that_is_being_deleted_keeps_nothing_once_its_pods_are_gone(w: Any) -> None:
    status = w.status(phase="Restarting", endedAttempt=1, checkpoint=CHECKPOINT)
    assert contention.writes(w.nothing(job=w.job(status)))
    assert not contention.writes(w.nothing(job=w.job(status, deleting=True)))


@pytest.mark.parametrize(("age", "yields"), [(29.0, False), (30.0, True)])
def test_a_gang_without_nodes_yields_to_a_job_that_waits_only_after_a_while(w: Any, age: float, yields: bool) -> None:
    said = contention.yields_destination(view(waiting(w, age, contested=True)))
    assert (said is not None) is yields
    if said is not None:
        assert said.ends == 1 and said.action is Action.DELETE_PODS
        assert "Releasing s3://checkpoints/demo to another job that waits for it: no pod of this job had a node after 30s." in said.message
        assert "With another checkpoint.destination the job starts" in said.message


def test_a_gang_without_nodes_yields_at_once_to_a_job_that_writes_and_names_the_field_in_question(w: Any) -> None:
    said = contention.yields_destination(view(waiting(w, 1.0, writer=OTHER)))
    assert said is not None and "to team/other:" in said.message and "With another output.destination" in said.message


def test_without_a_rival_or_with_a_node_nothing_is_yielded(w: Any) -> None:
    assert contention.yields_destination(view(waiting(w, 1e6))) is None
    one_placed = w.observed(w.pending(0), w.pending(1, node=None), job=w.job(w.status(phase="Starting")), agents={}, writer=OTHER)
    assert contention.yields_destination(view(one_placed)) is None
    assert contention.yields_destination(view(w.nothing(job=w.job(w.status(**FRESH)), writer=OTHER))) is None


def test_a_job_of_exports_alone_yields_its_exports(w: Any) -> None:
    spec = w.spec(checkpoint=None, output={"destination": "s3://exports/x"})
    observed = replace(waiting(w, 60.0, contested=True), job=w.job(w.status(phase="Starting"), spec=spec))
    said = contention.yields_destination(view(observed))
    assert said is not None and "Releasing s3://exports/x" in said.message and "With another output.destination" in said.message


def test_only_a_job_that_would_start_waits_for_a_destination(w: Any) -> None:
    assert contention.destination_in_use(view(w.observed(writer=OTHER))) is None
    said = contention.destination_in_use(view(w.nothing(job=w.job(w.status(**FRESH)), writer=OTHER)))
    assert said is not None and said.action is Action.NOTHING
    assert said.message == (
        "Waiting until team/other is over or suspended: it writes to the place of spec.output.destination s3://exports/x too, and each job "
        "would replace what the other stores. With another output.destination the job starts without waiting."
    )


# ---- names and refusals ----------------------------------------------------------------------------------------------------


def test_orphans_are_told_to_end_once_and_then_waited_for(w: Any) -> None:
    job = w.job(w.status(**FRESH))
    said = contention.name_in_use(view(w.nothing(job=job, pods=(w.pod(owner=None), w.pod(1, owner="another")))))
    assert said is not None and said.action is Action.DELETE_PODS and [each.name for each in said.delete] == ["demo-a1-0"]
    assert "Orphaned pods of an earlier job with this name save and end first" in said.message
    told = contention.name_in_use(view(w.nothing(job=job, pods=(w.pod(owner=None, deleting=NOW + 20, grace=30),))))
    assert told is not None and told.action is Action.NOTHING and told.again_in == 15.0


def test_pods_of_an_earlier_job_do_not_disturb_a_gang_that_runs(w: Any) -> None:
    assert contention.name_in_use(view(w.observed(w.pod(0), w.pod(1), w.pod(2, owner="another")))) is None


@pytest.mark.parametrize(("until", "waits"), [(10.0, 10.0), (0.0, None), (-5.0, None)])
def test_pods_that_were_refused_are_not_tried_again_before_their_time(w: Any, until: float, waits: float | None) -> None:
    refused = NotCreated(message='pods "demo-a1-0" is forbidden: no', until=NOW + until)
    for observed, phase in ((w.nothing(job=w.job(w.status(**FRESH))), "Pending"), (w.observed(w.pod(0)), "Starting")):
        said = contention.refused_lately(view(replace(observed, not_created=refused)))
        assert (said.again_in if said else None) == waits and (said is None or said.phase == phase)


def test_a_refusal_does_not_concern_a_gang_that_is_whole(w: Any) -> None:
    refused = NotCreated(message="no", until=NOW + 10)
    assert contention.refused_lately(view(w.observed(not_created=refused))) is None
    assert contention.gives_back(view(w.observed(not_created=refused))) is None


@pytest.mark.parametrize(("final", "age", "ends"), [(True, 0.0, True), (False, 19.0, False), (False, 20.0, True)])
def test_an_incomplete_gang_ends_at_once_after_a_refusal_and_after_a_while_without_an_answer(
    w: Any, final: bool, age: float, ends: bool
) -> None:
    refused = NotCreated(message="exceeded quota: gpus, requested: 8, used: 8, limited: 8", final=final)
    observed = w.observed(w.pending(0, created=NOW - age), not_created=refused, job=w.job(w.status(phase="Starting")), agents={})
    said = contention.gives_back(view(observed))
    assert (said is not None) is ends
    if said is not None:
        assert said.ends == 1 and said.message.endswith("The pods that were admitted end meanwhile: 1 of 2.")


# ---- ends ------------------------------------------------------------------------------------------------------------------


def over(w: Any, phase: str, ago: float, ttl: int | None, *pods: Any) -> Any:
    status = w.status(phase=phase, endedAttempt=1, completionTime=text_of(NOW - ago), message="It is over.")
    spec = w.spec(ttlSecondsAfterFinished=ttl) if ttl is not None else w.spec()
    return ended.finished(view(w.nothing(job=w.job(status, spec=spec), pods=pods)))


@pytest.mark.parametrize(
    ("ago", "action", "again"), [(99, Action.NOTHING, 1.0), (100, Action.DELETE_JOB, None), (900, Action.DELETE_JOB, None)]
)
def test_a_job_that_is_over_is_deleted_after_its_time_and_not_before(w: Any, ago: float, action: Action, again: float | None) -> None:
    said = over(w, "Complete", ago, 100)
    assert (said.action, said.again_in, said.message) == (action, again, "It is over.")


def test_a_job_without_a_time_to_live_stays(w: Any) -> None:
    assert over(w, "Failed", 1e7, None).action is Action.NOTHING
    assert over(w, "Failed", 0, 0).action is Action.DELETE_JOB


@pytest.mark.parametrize(
    ("phase", "ago", "ends"),
    [("Complete", 599.0, False), ("Complete", 600.0, True), ("Failed", 0.0, True)],
)
def test_pods_that_outlive_a_complete_job_have_time_to_end_and_those_of_a_failed_one_have_none(
    w: Any, phase: str, ago: float, ends: bool
) -> None:
    said = over(w, phase, ago, 0, w.pod(0))
    assert (said.action is Action.DELETE_PODS) is ends and said.action is not Action.DELETE_JOB
    assert ends or said.again_in == pytest.approx(600 - ago)


@pytest.mark.parametrize(("checkpoint", "what"), [({"destination": "s3://c/x"}, "2 pods save and end"), (None, "2 pods end")])
def test_a_job_without_checkpoints_is_not_said_to_save(w: Any, checkpoint: Any, what: str) -> None:
    said = ended.suspended(view(w.observed(job=w.job(spec=w.spec(suspend=True, checkpoint=checkpoint)))))
    assert said is not None and said.message == f"{what} before the job is suspended."


@pytest.mark.parametrize("state", ["nothing", "older attempt"])
def test_an_attempt_that_is_over_is_not_ended_twice_by_suspension(w: Any, state: str) -> None:
    job = w.job(w.status(endedAttempt=1), spec=w.spec(suspend=True))
    said = ended.suspended(view(w.nothing(job=job) if state == "nothing" else w.observed(w.pod(0), job=job)))
    assert said is not None and said.ends is None
    assert said.phase == ("Suspended" if state == "nothing" else "Suspending")


@pytest.mark.parametrize(("age", "late"), [(99.0, False), (100.0, True)])
def test_a_gang_that_does_no_step_in_time_after_it_was_placed_has_failed(w: Any, age: float, late: bool) -> None:
    spec = w.spec(startupDeadlineSeconds=100)
    pods = [w.pod(index, placed=NOW - age - index, created=NOW - 5000) for index in (0, 1)]
    agents = {0: w.agent(phase="preparing")}
    said = failed.failed(view(w.observed(*pods, job=w.job(w.status(phase="Starting"), spec=spec), agents=agents)))
    assert (said is not None) is late
    if said is not None:
        assert said.failure is not None and said.failure.reason == "StartupDeadline"
        assert "No step was done within startupDeadlineSeconds (100 s)." in said.failure.message


# ---- the way to the first step ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("age", "waits"), [(0.0, True), (2.0, True), (3.0, False), (-1.0, False)])
def test_an_attempt_that_another_leader_has_just_announced_is_left_to_it_for_a_moment(w: Any, age: float, waits: bool) -> None:
    status = w.status(
        phase="Starting",
        attempt=1,
        endedAttempt=0,
        pods={"wanted": 2, "created": 0},
        goodput={"accountedUntil": text_of(NOW - age)},
        conditions=[PLANNED, {**PLANNED, "type": "Running", "status": "False", "reason": "CreatingPods"}],
    )
    said = starting.being_created(view(w.nothing(job=w.job(status))))
    assert (said is not None and said.action is Action.NOTHING) is waits
    refused = NotCreated(message="no")
    assert starting.being_created(view(w.nothing(job=w.job(status), not_created=refused))) is None


def test_a_manifest_that_became_unreadable_ends_nothing_that_runs(w: Any) -> None:
    unreadable = replace(w.job(), spec=None, refusal="spec.task is juggle: it must be one of pretrain, sft.")
    runs = starting.unreadable(view(w.observed(job=unreadable)))
    assert runs is not None and runs.phase == "Running" and runs.action is Action.NOTHING
    assert runs.message == "The manifest is refused; running pods continue: spec.task is juggle: it must be one of pretrain, sft."
    idle = starting.unreadable(view(w.nothing(job=unreadable)))
    assert idle is not None and (idle.phase, idle.message) == ("Pending", unreadable.refusal)
    assert starting.unreadable(view(w.observed())) is None


def test_a_gang_that_waits_for_nodes_is_looked_at_less_often_than_one_that_starts(w: Any) -> None:
    placed = w.observed(w.pending(0), w.pending(1), job=w.job(w.status(phase="Starting")), agents={})
    said, slow = starting.under_way(view(placed)), starting.under_way(view(waiting(w)))
    assert said is not None and slow is not None and (said.again_in, slow.again_in) == (starting.STARTING_LOOK, 30.0)


def test_a_gang_whose_first_agent_is_silent_trains_as_far_as_is_known(w: Any) -> None:
    heard, silent = starting.under_way(view(w.observed())), starting.under_way(view(w.observed(agents={0: w.agent(age=600.0)})))
    assert heard is not None and heard.message == "Training on 2 pods."
    assert silent is not None and silent.phase == "Running" and silent.message.startswith("Training on 2 pods, as far as is known: ")
