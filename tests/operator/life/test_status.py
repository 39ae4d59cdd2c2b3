"""What stands in .status: whole statuses against golden files, and the rules of conditions, counts and writing."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmtrain_operator.api.job import Status
from llmtrain_operator.life.attempt import AttemptView
from llmtrain_operator.life.decide import decide
from llmtrain_operator.life.decision import Decision
from llmtrain_operator.life.observed import Observed
from llmtrain_operator.life.policies.restart_budget import said_in_place
from llmtrain_operator.life.status import as_dict, plan_summary, project, worth_writing
from llmtrain_operator.manifest.parse import parse_object
from llmtrain_operator.plan.plan import plan
from llmtrain_trainer.config import Output

GOLDEN = Path(__file__).parents[1] / "golden"


def after(observed: Observed) -> Status:
    return project(observed, decide(observed))


def again(observed: Observed, **changes: Any) -> Observed:
    """The next look, with the status that the last one led to."""
    return replace(observed, job=replace(observed.job, status=after(observed)), **changes)


CASES: dict[str, Callable[[Any], Observed]] = {
    "first-seen": lambda w: w.nothing(job=w.job(Status())),
    "running": lambda w: w.observed(
        agents={
            0: w.agent(
                progress=w.progress(validationLoss=2.5, mfu=0.41234),
                checkpoint={"name": "step-00000030-a1-r1", "step": 30, "uri": "s3://c/demo/x", "bytes": 9, "committedAt": w.now - 60},
            )
        },
        job=w.job(w.status(goodput={"accountedUntil": "2027-01-15T07:59:50Z", "byCause": {"queued": 5.0}, "totalSeconds": 5.0})),
    ),
    "restarting": lambda w: w.observed(
        w.ended(1, verdict={"firstFailingRank": 1, "node": "node-0", "step": 41, "message": "Rank 1 on node-0 failed.", "restarts": 2}),
        w.pod(1),
        job=w.job(w.status(progress={"step": 40, "targetSteps": 100, "percent": 40})),
    ),
    "refused": lambda w: w.nothing(job=w.job(Status(), refusal="spec.parallelism.tensor is 3: it must divide 4. Use 2.")),
    "complete": lambda w: w.observed(
        *(
            w.ended(0, index, verdict={"reason": "Complete", "message": "Training is complete after 100 steps.", "step": 100})
            for index in (0, 1)
        ),
        agents={},
        job=w.job(w.status(progress={"step": 98, "targetSteps": 100, "percent": 98, "eta": "4s"})),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_status_is_that_of_the_golden_file(w: Any, name: str) -> None:
    text = yaml.safe_dump(as_dict(after(CASES[name](w))), sort_keys=False, width=140)
    path = GOLDEN / f"status-{name}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def held(status: Status) -> set[str]:
    return {condition.type for condition in status.conditions if condition.status == "True"}


@pytest.mark.parametrize(
    ("name", "conditions"),
    [
        ("running", {"Planned", "Running"}),
        ("restarting", {"Planned", "Restarting"}),
        ("refused", {"Stalled"}),
        ("complete", {"Planned", "Complete"}),
    ],
)
def test_each_state_holds_its_own_conditions(w: Any, name: str, conditions: set[str]) -> None:
    assert held(after(CASES[name](w))) == conditions


@pytest.mark.parametrize("name", CASES)
def test_no_state_says_ready_is_false(w: Any, name: str) -> None:
    assert "Ready" not in {condition.type for condition in after(CASES[name](w)).conditions}


def test_a_condition_keeps_its_time_while_it_holds_and_gets_a_new_one_when_it_flips(w: Any) -> None:
    first = again(CASES["running"](w))
    later = again(replace(first, now=w.now + 100))

    def time(seen: Observed, kind: str) -> str:
        return next(condition.last_transition_time for condition in seen.job.status.conditions if condition.type == kind)

    assert time(later, "Running") == time(first, "Running") == "2027-01-15T08:00:00Z"
    broken = again(replace(later, now=w.now + 200, pods=(w.ended(1, verdict={}), w.pod(1))))
    assert time(broken, "Running") == time(broken, "Restarting") == "2027-01-15T08:03:20Z"
    assert time(broken, "Complete") == "2027-01-15T08:00:00Z"


def test_looking_again_changes_nothing(w: Any) -> None:
    for case in CASES.values():
        seen = again(case(w))
        if seen.job.status.phase not in ("Restarting", "Starting"):  # these go on by themselves: failed, then stopping; created
            assert after(seen).conditions == seen.job.status.conditions


def test_a_failure_is_counted_once(w: Any) -> None:
    seen = again(CASES["restarting"](w))
    for _ in range(3):
        seen = again(seen)
    restarts = seen.job.status.restarts
    assert restarts is not None
    assert (restarts.total, restarts.in_place, restarts.in_window, restarts.streak) == (3, 2, 3, 1)


def test_a_failure_that_is_only_understood_better_or_ends_the_job_is_no_restart(w: Any) -> None:
    lost = w.status(phase="Restarting", ended_attempt=1, failure={"reason": "PeerLost", "attempt": 1}, restarts={"total": 1})
    pods = (w.ended(1, verdict={"reason": "PeerLost"}), w.pod(1))
    understood = after(w.observed(*pods, job=w.job(lost), nodes={"node-1": w.node(1, exists=False)}))
    assert (understood.failure.reason, understood.restarts.total, understood.avoided_nodes) == ("NodeLost", 1, ("node-1",))
    final = after(w.observed(w.ended(2), w.pod(1)))
    assert (final.phase, final.restarts.total, final.failure.reason) == ("Failed", 0, "BadConfig")


def test_pods_that_were_there_are_remembered_of_this_attempt_alone(w: Any) -> None:
    assert after(w.observed(w.pod(0), job=w.job(w.status(phase="Complete")))).pods.created == 2
    assert after(w.nothing(job=w.job(w.status(phase="Suspended", ended_attempt=1)))).pods.created == 0


def test_preemption_and_suspend_are_counted_apart(w: Any) -> None:
    preempted = again(w.observed(w.pod(0, deleting=w.now, disruption="PreemptionByScheduler"), w.pod(1))).job.status.restarts
    suspended = again(w.observed(job=w.job(spec=w.spec(suspend=True)))).job.status.restarts
    assert preempted is not None and suspended is not None
    assert (preempted.total, preempted.in_window, preempted.preemptions) == (1, 0, 1)
    assert (suspended.total, suspended.in_window, suspended.preemptions) == (0, 0, 1)


def test_restarts_in_place_of_another_attempt_count_anew(w: Any) -> None:
    running = w.observed(agents={0: w.agent(restarts=2, progress=w.progress())})
    first = again(again(running))
    counts = {"attempt": 2, "endedAttempt": 1, "restarts": first.job.status.restarts.model_copy(update={"attempt_in_place": 0})}
    job = w.job(first.job.status.model_copy(update={"attempt": 2, "ended_attempt": 1, "restarts": counts["restarts"]}))
    second = again(w.observed(w.pod(0, 2), w.pod(1, 2), job=job, agents={0: w.agent(attempt=2, restarts=1, progress=w.progress())}))
    assert first.job.status.restarts.in_place == 2
    assert second.job.status.restarts.in_place == 3


def test_a_restart_in_place_is_told_once_with_its_cause(w: Any) -> None:
    cause = "Rank 1 on node-0 ended by SIGKILL after step 5; starting the ranks again."
    running = w.observed(agents={0: w.agent(restarts=1, last_restart=cause, progress=w.progress())})
    assert said_in_place(AttemptView(running)) == cause
    assert said_in_place(AttemptView(again(running))) is None
    silent = w.observed(agents={1: w.agent(restarts=3)})
    assert said_in_place(AttemptView(silent)) == "The ranks were restarted in their pods. It was the last of 3 restarts in place."


def test_the_streak_ends_when_training_gets_further_than_ever(w: Any) -> None:
    status = w.status(restarts={"streak": 3}, goodput={"highWaterStep": 50})
    for step, streak in ((45, 3), (51, 0)):
        seen = again(w.observed(job=w.job(status), agents={0: w.agent(progress=w.progress(step))}))
        assert seen.job.status.restarts.streak == streak


def test_only_suspect_nodes_are_avoided_and_only_if_wanted(w: Any) -> None:
    node = {"reason": "RankFailed", "node": "node-1"}
    assert after(w.observed(w.ended(1, verdict=node), w.pod(1))).avoided_nodes == ("node-1",)
    assert after(w.observed(w.ended(74, verdict={**node, "reason": "StoreUnreachable"}), w.pod(1))).avoided_nodes == ()
    careless = w.job(spec=w.spec(resilience={"avoidNodes": False}))
    assert after(w.observed(w.ended(1, verdict=node), w.pod(1), job=careless)).avoided_nodes == ()


def test_a_loss_that_is_no_number_is_left_out(w: Any) -> None:
    progress = after(w.observed(agents={0: w.agent(progress=w.progress(loss=float("nan")))})).progress
    assert progress is not None and progress.loss is None and progress.step == 40


def test_what_the_task_measures_is_told_and_the_newest_evaluation_is_kept(w: Any) -> None:
    measured = w.progress(metrics={"accuracy": 0.25}, validationMetrics={"accuracy": 0.51234, "n" * 65: 1.0})
    first = after(w.observed(agents={0: w.agent(progress=measured)}))
    assert (first.progress.metrics, first.progress.validation_metrics) == ({"accuracy": 0.25}, {"accuracy": 0.5123})
    second = after(w.observed(job=w.job(first), agents={0: w.agent(progress=w.progress(50))}))
    assert (second.progress.metrics, second.progress.validation_metrics) == (None, {"accuracy": 0.5123})


def test_the_last_word_of_node_0_outranks_what_its_agent_told_before(w: Any) -> None:
    saved = {"name": "step-00000100-a1-r1", "step": 100, "uri": "s3://c/demo/x", "bytes": 9, "committedAt": w.now - 20}
    earlier = saved | {"name": "step-00000090-a1-r1", "step": 90, "committedAt": w.now - 60}
    last = {"reason": "Complete", "message": "Done.", "step": 100, "progress": w.progress(100, loss=1.5), "checkpoint": saved}
    ended = [w.ended(0, 0, verdict=last), w.ended(0, 1, verdict={"reason": "Complete", "message": "Done."})]
    status = after(w.observed(*ended, agents={0: w.agent(progress=w.progress(91), checkpoint=earlier)}))
    assert status.phase == "Complete" and status.progress is not None and status.checkpoint is not None
    assert (status.progress.step, status.progress.percent, status.progress.loss, status.progress.eta) == (100, 100, 1.5, None)
    assert status.checkpoint.step == 100


def test_progress_and_checkpoint_outlive_the_agent_that_told_them(w: Any) -> None:
    seen = again(CASES["running"](w))
    silent = after(replace(seen, agents={}))
    assert silent.progress == seen.job.status.progress
    assert silent.checkpoint == seen.job.status.checkpoint


def test_a_job_at_rest_keeps_how_far_it_got_and_no_speed(w: Any) -> None:
    seen = again(CASES["running"](w))
    decision = Decision(phase="Suspended", reason="Suspended", message="Suspended.")
    rests, ran = project(seen, decision).progress, seen.job.status.progress
    assert rests is not None and ran is not None and ran.eta and ran.tokens_per_second
    assert (rests.step, rests.loss) == (ran.step, ran.loss)
    assert (rests.eta, rests.tokens_per_second, rests.tokens_per_second_per_gpu, rests.mfu) == (None, None, None, None)


def test_numbers_alone_wait_and_a_transition_does_not(w: Any) -> None:
    seen = again(CASES["running"](w))
    old = seen.job.status
    further = after(replace(seen, now=w.now + 2, agents={0: w.agent(progress=w.progress(41))}))
    assert further.progress != old.progress
    assert not worth_writing(old, further, since_last_write=2)
    assert worth_writing(old, further, since_last_write=20)
    assert worth_writing(old, after(replace(seen, pods=(w.ended(1), w.pod(1)))), since_last_write=0)
    assert not worth_writing(old, old, since_last_write=1000)


def test_the_checkpoint_that_ending_pods_leave_is_written_before_they_are_gone(w: Any) -> None:
    seen = again(CASES["running"](w))
    suspending = replace(seen, job=replace(seen.job, spec=seen.job.spec.model_copy(update={"suspend": True})))
    before = after(suspending)
    saved = {"name": "step-00000041-a1-r1", "step": 41, "uri": "s3://c/demo/y", "bytes": 9, "committedAt": w.now - 1}
    last = {"exitCode": 75, "reason": "Saved", "message": "Saved.", "step": 41, "checkpoint": saved}
    ended = again(replace(suspending, job=replace(suspending.job, status=before)), pods=(w.ended(75, 0, verdict=last), w.pod(1)))
    told = after(ended)
    assert told.checkpoint is not None and told.checkpoint.step == 41
    assert worth_writing(before, told, since_last_write=0) and not worth_writing(told, after(ended), since_last_write=0)
    gone = after(replace(ended, pods=(), job=replace(ended.job, status=told)))
    assert gone.phase == "Suspended" and gone.checkpoint == told.checkpoint


def test_what_a_complete_job_made_is_listed_with_its_place(w: Any) -> None:
    def made(**output: Any) -> list[tuple[str, str]]:
        status = after(replace(complete, job=replace(complete.job, spec=complete.job.spec.model_copy(update=output))))
        return [(one.kind, one.uri) for one in status.artifacts]

    complete = CASES["complete"](w)
    place = "s3://checkpoints/demo"
    assert made() == [("full", f"{place}/export/full"), ("report", f"{place}/report/report.html")]
    assert made(output=Output(export=("adapter",), report=False, destination="s3://out/x/")) == [("adapter", "s3://out/x/export/adapter")]
    assert made(checkpoint=None) == [] == list(after(CASES["running"](w)).artifacts)


def test_pods_that_are_placed_one_by_one_do_not_each_cost_a_write(w: Any) -> None:
    waiting = w.observed(w.pending(0, node=None), w.pending(1, node=None), agents={}, job=w.job(w.status(phase="Starting")))
    seen = again(waiting)
    one_more = after(replace(seen, pods=(w.pending(0), w.pending(1, node=None))))
    assert one_more.message != seen.job.status.message
    assert not worth_writing(seen.job.status, one_more, since_last_write=2)
    created = seen.job.status.model_copy(update={"pods": seen.job.status.pods.model_copy(update={"created": 1})})
    assert worth_writing(created, one_more, since_last_write=0)


def test_running_says_why_it_is_not_and_stations_of_an_ordinary_start_cost_no_write_each(w: Any) -> None:
    def running(status: Status) -> tuple[str, str, str]:
        found = next(condition for condition in status.conditions if condition.type == "Running")
        return found.status, found.reason, found.message

    job = w.job(w.status(phase="Starting"))
    seen = again(w.observed(w.pending(0), w.pending(1), agents={}, job=job))
    assert running(seen.job.status)[:2] == ("False", "CreatingContainers")
    meeting = after(replace(seen, pods=(w.pod(0), w.pod(1)), agents={0: w.agent(phase="starting")}))
    assert running(meeting)[1] == "Rendezvous" and not worth_writing(seen.job.status, meeting, since_last_write=2)
    stuck = after(replace(seen, pods=(w.pod(0), w.pending(1, waiting="ErrImagePull", waiting_message="not found"))))
    assert running(stuck) == ("False", "ImagePullFailed", "The image of pod demo-a1-1 cannot be pulled: not found.")
    assert worth_writing(seen.job.status, stuck, since_last_write=0)


def test_the_plan_in_the_status_is_short(w: Any) -> None:
    document = yaml.safe_load((Path(__file__).parents[3] / "examples/03-llama3-8b-2x4x4.yaml").read_text())
    from llmtrain_operator.sources import read_shape

    job = parse_object(document)
    summary = plan_summary(plan(job, read_shape(job.spec.model)))
    assert (summary.layout, summary.gpus, summary.nodes, summary.model) == ("pp4 dp2 tp4", 32, 4, "llama")


def test_what_agents_told_stands_in_the_status_from_then_on(w: Any) -> None:
    running = w.observed(
        agents={0: w.agent(notices=["dataset[0]: 2 rows were cut."]), 1: w.agent(notices=["dataset[0]: 2 rows were cut."])}
    )
    told = after(running)
    assert told.notices == ("dataset[0]: 2 rows were cut.",)
    assert worth_writing(told.model_copy(update={"notices": ()}), told, 0.0)
    silent = again(running, agents={})
    assert after(silent).notices == told.notices
    ended = w.observed(w.ended(0, verdict={"notices": ["one more"]}), w.ended(0, 1), job=w.job(told))
    assert after(ended).notices == ("dataset[0]: 2 rows were cut.", "one more")


def test_words_longer_than_the_api_server_takes_are_cut_and_say_so(w: Any) -> None:
    """Also where the sentence on what follows makes them so."""
    said = {"exitCode": 2, "reason": "R" * 2000, "message": "x" * 32_768}
    status = after(w.observed(w.ended(2, 0, verdict=said), w.ended(2, 1, verdict=said), agents={}))
    assert status.phase == "Failed" and status.message is not None and len(status.message) == 32_768 and status.message.endswith("x…")
    assert all(len(found.message) <= 32_768 and len(found.reason) <= 1024 for found in status.conditions)
