"""What `llmtrain why` says of a state, with an operator at work and without."""

from __future__ import annotations

from typing import Any

from llmtrain_operator.life.explain import pods, rows, state_of
from llmtrain_operator.life.failures.remedies import remedy
from llmtrain_operator.life.observed import Observed, Warned

AWAY = "No operator is at work: its lease llmtrain-operator was last renewed 5m00s ago."
NO_NODE = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu. no new claims to deallocate, preemption: 0/2 nodes are available."


def waiting(w: Any) -> Observed:
    status = w.status(phase="Starting", observed_generation=3)
    pending = (w.pending(0, node=None, unschedulable=NO_NODE), w.pending(1, node=None, unschedulable=NO_NODE))
    return w.observed(*pending, agents={}, job=w.job(status))  # type: ignore[no-any-return]


def test_the_sentence_is_that_of_the_objects_as_they_are_now(w: Any) -> None:
    state = state_of(waiting(w))
    assert (state.phase, state.reason) == ("Starting", "Unschedulable")
    assert state.sentence == "All 2 pods are waiting for a node: 0/2 nodes are available: 2 Insufficient nvidia.com/gpu."


def test_what_the_operator_knows_and_the_objects_do_not_is_its_word(w: Any) -> None:
    said = {"type": "Running", "status": "False", "reason": "GangOrder", "last_transition_time": "2027-01-15T07:59:00Z"}
    status = w.status(phase="Queued", message="Waiting for its turn.", attempt=None, observed_generation=3, conditions=[said])
    state = state_of(w.nothing(job=w.job(status)))
    assert (state.phase, state.reason, state.sentence) == ("Queued", "GangOrder", "Waiting for its turn.")


def test_without_an_operator_nothing_begins_and_what_holds_up_pods_is_still_told(w: Any) -> None:
    idle = state_of(w.nothing(job=w.job(w.status(phase="Pending", attempt=None))), AWAY)
    assert idle.sentence == f"{AWAY} Running pods continue; nothing new starts."
    held = state_of(waiting(w), AWAY)
    assert held.reason == "Unschedulable" and ("operator", AWAY) in rows(waiting(w), held, AWAY)


def test_a_manifest_that_no_operator_has_looked_at_says_so(w: Any) -> None:
    new = state_of(w.nothing(job=w.job(w.status(phase=None, attempt=None), created=w.now - 5)))
    old = state_of(w.nothing(job=w.job(w.status(phase=None, attempt=None))))
    assert new.sentence == "The operator has not processed the job yet."
    assert old.sentence.startswith("The operator has not processed this manifest, which is 1h00m old: ")


def test_the_evidence_names_the_first_failing_rank_and_where_it_was(w: Any) -> None:
    failure = {
        "reason": "RankFailed",
        "message": "Rank 3 on node-1 ended by SIGKILL.",
        "attempt": 1,
        "first_failing_rank": 3,
        "node": "node-1",
        "step": 41,
        "time": "2027-01-15T07:59:00Z",
    }
    checkpoint = {"name": "step-00000040-a1-r1", "step": 40, "uri": "s3://b/x", "time": "2027-01-15T07:58:00Z"}
    restarts = {"total": 2, "in_place": 1, "in_window": 2}
    seen = w.observed(job=w.job(w.status(failure=failure, checkpoint=checkpoint, restarts=restarts)))
    found = dict(rows(seen, state_of(seen), None))
    assert found["last failure"] == (
        "RankFailed (attempt 1, step 41, rank 3 first, on node-1, 1m00s ago): Rank 3 on node-1 ended by SIGKILL."
    )
    assert found["checkpoint"] == "step 40, 2m00s ago: s3://b/x"
    assert found["restarts"] == "2, 1 of them in place; 2 of 20 in 24h count now"


def test_pods_that_run_are_counted_and_the_others_listed_with_what_is_the_matter(w: Any) -> None:
    stuck = w.pending(1, waiting="ContainerCreating")
    seen = w.observed(w.pod(0), stuck, warnings={stuck.name: Warned(reason="FailedMount", message="no such path")})
    assert pods(seen) == ("attempt 1: 2 of 2 pods, 1 run", [("demo-a1-1", "Pending", "node-1", "FailedMount: no such path")])
    assert pods(w.nothing()) == ("no pods", [])


def test_the_way_out_names_the_job_and_the_rank(w: Any) -> None:
    assert remedy("RankFailed", "demo", 3) == "Read the end of the rank's log: `llmtrain logs demo --rank 3`."
    assert remedy("RankFailed", "demo") == "Read the end of the rank's log: `llmtrain logs demo`."
    assert remedy("Training", "demo") is None
