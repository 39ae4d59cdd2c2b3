"""What a row of the decision table cannot say: numbers, graces, sentences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llmtrain_operator.life.decide import decide
from llmtrain_operator.life.decision import Action
from llmtrain_operator.life.observed import Admission, NotCreated, Observed, Warned
from llmtrain_operator.life.policies.placement import rival_of
from llmtrain_operator.life.times import text_of
from llmtrain_trainer.config import ExitCode

NOW = 1_800_000_000.0
LOST = {"not_ready_since": NOW - 90}
RAN = {"phase": "Restarting", "ended_attempt": 1, "failure": {"reason": "RankFailed", "attempt": 1, "time": "2027-01-15T08:00:00Z"}}
QUEUED = {"type": "Queued", "status": "True", "reason": "GangOrder", "lastTransitionTime": "2027-01-15T07:59:00Z"}
Case = Callable[[Any], Observed]


def test_the_next_attempt_is_above_every_trace_of_one(w: Any) -> None:
    fenced = w.ended(ExitCode.FENCED, verdict={"reason": "Fenced", "storedAttempt": 7})
    decision = decide(w.observed(fenced, w.pod(1)))
    assert (decision.phase, decision.reason, decision.ends) == ("Restarting", "Fenced", 7)
    assert decide(w.nothing(job=w.job(w.status(**{**RAN, "phase": "Restarting", "ended_attempt": 7})))).attempt == 8
    restored = w.observed(w.ended(1, 0, 5), w.ended(1, 1, 5), job=w.job(w.status(**RAN)))
    assert decide(restored).reason == "AgentFailed"  # attempt 5 is the newest there is, whatever an old status says
    assert decide(w.nothing(job=w.job(w.status(**RAN)))).attempt == 2


def test_an_attempt_that_has_no_pods_and_never_had_them_all_is_not_begun_again(w: Any) -> None:
    """Its number may be one that a status restored from the past names, and that trained long ago."""
    assert decide(w.nothing(job=w.job(w.status(phase="Starting", attempt=4, pods={"created": 1})))).attempt == 5


def test_an_attempt_that_another_operator_is_about_to_create_is_waited_for(w: Any) -> None:
    def seen(ago: float, **changes: Any) -> Observed:
        goodput = {"accountedUntil": text_of(NOW - ago), "totalSeconds": 1, "byCause": {}}
        return w.nothing(job=w.job(w.status(phase="Starting", attempt=2, ended_attempt=1, pods={"created": 0}, goodput=goodput)), **changes)

    waits = decide(seen(1))
    assert (waits.action, waits.phase, waits.again_in) == (Action.NOTHING, "Starting", 2.0)
    assert decide(seen(3)).attempt == 3
    assert decide(seen(-60)).attempt == 3, "a clock that was set back holds nothing up"
    assert decide(seen(1, not_created=NotCreated(message="exceeded quota"))).attempt == 2


def test_only_the_missing_pods_of_a_gang_are_created(w: Any) -> None:
    decision = decide(w.observed(w.pending(1), agents={}, job=w.job(w.status(phase="Starting", pods={"created": 1}))))
    assert (decision.attempt, decision.create) == (1, (0,))


def test_a_crash_leaves_the_others_little_time_and_a_drain_all_of_it(w: Any) -> None:
    crash = decide(w.observed(w.ended(1, verdict={}), w.pod(1)))
    drain = decide(w.observed(w.pod(0, deleting=NOW, disruption="EvictionByEvictionAPI"), w.pod(1)))
    assert [deletion.grace for deletion in crash.delete] == [10.0]
    assert [(deletion.name, deletion.grace) for deletion in drain.delete] == [("demo-a1-1", None)]


def test_pods_on_dead_nodes_are_told_by_force_and_the_others_in_order(w: Any) -> None:
    decision = decide(w.observed(nodes={"node-0": w.node(0), "node-1": w.node(1, exists=False)}))
    assert {deletion.name: deletion.grace for deletion in decision.delete} == {"demo-a1-1": 0.0, "demo-a1-0": 10.0}
    assert decision.failure is not None and decision.failure.node == "node-1"


def test_pods_of_attempts_before_the_last_are_cleared_away_and_the_last_kept_for_its_logs(w: Any) -> None:
    pods = [w.ended(1, index, attempt) for attempt in (1, 2) for index in (0, 1)]
    decision = decide(w.observed(*pods, job=w.job(w.status(attempt=2, ended_attempt=2))))
    assert decision.action is Action.CREATE
    assert {deletion.name for deletion in decision.delete} == {"demo-a1-0", "demo-a1-1"}


def test_a_lost_peer_is_explained_once_the_lost_node_is_seen(w: Any) -> None:
    status = w.status(phase="Restarting", ended_attempt=1, failure={"reason": "PeerLost", "attempt": 1})
    seen = w.observed(w.ended(1, verdict={"reason": "PeerLost"}), w.pod(1), job=w.job(status), nodes={"node-1": w.node(1, **LOST)})
    decision = decide(seen)
    assert decision.failure is not None and (decision.failure.reason, decision.failure.node) == ("NodeLost", "node-1")
    assert not decision.restart


def test_a_missing_secret_is_named(w: Any) -> None:
    waiting = {"waiting": "CreateContainerConfigError", "waiting_message": 'secret "s3-creds" not found'}
    decision = decide(w.observed(w.pending(0, **waiting), w.pending(1, **waiting), agents={}))
    assert decision.reason == "SecretMissing"
    assert decision.message == "The secret s3-creds does not exist in namespace team; create it and the job continues."


FORBIDDEN = 'pods "demo-a1-0" is forbidden: '
START_ERROR = 'failed to create task: OCI runtime create failed: unable to start: exec: "python": executable file not found in $PATH'


def refused(w: Any, said: str) -> Observed:
    """A first attempt of which the API server let no pod in."""
    return w.nothing(job=w.job(w.status(phase="Starting", pods={"wanted": 2, "created": 0})), not_created=NotCreated(message=said))  # type: ignore[no-any-return]


WHY: list[tuple[str, Case, str]] = [
    (
        "queue",
        lambda w: w.observed(
            w.pending(0, node=None, gated=True),
            w.pending(1, node=None, gated=True),
            job=w.job(spec=w.spec(scheduling={"queue": "team-a"})),
            gang="kueue",
            admission=Admission(admitted=False, message="insufficient unused quota for nvidia.com/gpu, 8 more needed."),
            agents={},
        ),
        "Waiting in queue team-a: insufficient unused quota for nvidia.com/gpu, 8 more needed.",
    ),
    (
        "scheduling",
        lambda w: w.observed(
            w.pending(0),
            w.pending(1, node=None, unschedulable="0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available"),
            agents={},
        ),
        "Pod demo-a1-1 is waiting for a node: 0/2 nodes are available: 2 Insufficient cpu.",
    ),
    (
        "claim",
        lambda w: w.observed(
            *(w.pending(index, node=None, unschedulable='persistentvolumeclaim "runs" not found') for index in (0, 1)), agents={}
        ),
        "All 2 pods are waiting for a node: the volume claim runs does not exist.",
    ),
    (
        "mount",
        lambda w: w.observed(w.pod(0), w.pending(1), warnings={"demo-a1-1": Warned(reason="FailedMount", message="timed out")}, agents={}),
        "A volume of pod demo-a1-1 cannot be mounted: timed out.",
    ),
    (
        "image",
        lambda w: w.observed(w.pod(0), w.pending(1, waiting="ErrImagePull", waiting_message="not found"), agents={}),
        "The image of pod demo-a1-1 cannot be pulled: not found.",
    ),
    (
        "quota",
        lambda w: refused(
            w, f"{FORBIDDEN}exceeded quota: small, requested: nvidia.com/gpu=8, used: nvidia.com/gpu=0, limited: nvidia.com/gpu=4"
        ),
        "Quota small of namespace team has no room for the pods: a pod requests nvidia.com/gpu=8, nvidia.com/gpu=0 is used and "
        "nvidia.com/gpu=4 is the limit.",
    ),
    (
        "priority class",
        lambda w: refused(w, f"{FORBIDDEN}no PriorityClass with name gold was found"),
        "The priority class gold does not exist in this cluster.",
    ),
    (
        "service account",
        lambda w: refused(w, f'{FORBIDDEN}error looking up service account team/bot: serviceaccount "bot" not found'),
        "The service account bot does not exist in namespace team.",
    ),
    (
        "other refusal",
        lambda w: w.observed(
            w.pod(0), job=w.job(w.status(pods={"wanted": 2, "created": 1})), agents={}, not_created=NotCreated(message="Pod is invalid.")
        ),
        "The API server refuses the pods: Pod is invalid. The pods that were admitted end meanwhile: 1 of 2.",
    ),
    (
        "no trainer in the image",
        lambda w: w.observed(w.ended(128, 0, exit_reason="StartError", termination=START_ERROR), w.pod(1), agents={}),
        'Pod demo-a1-0 on node-0 could not start its container: exec: "python": executable file not found in $PATH.',
    ),
    (
        "agent",
        lambda w: w.observed(agents={0: w.agent(phase="preparing", message="Tokenises 3 of 7 files.")}),
        "The pods are running and prepare model and data: Tokenises 3 of 7 files.",
    ),
    (
        "stuck",
        lambda w: w.observed(w.pod(0, deleting=NOW - 300, grace=30), job=w.job(w.status(**RAN))),
        "Pod demo-a1-0 on node-0 should have ended 5m00s ago; no new attempt starts before it has.",
    ),
]


@pytest.mark.parametrize(("name", "case", "sentence"), WHY, ids=[row[0] for row in WHY])
def test_why_it_does_not_run_is_one_sentence(w: Any, name: str, case: Case, sentence: str) -> None:
    assert decide(case(w)).message == sentence


def test_an_attempt_of_which_no_pod_was_let_in_is_tried_again_under_its_own_number(w: Any) -> None:
    assert decide(refused(w, "exceeded quota")).attempt == 1
    ended = w.job(w.status(phase="Starting", ended_attempt=1, pods={"wanted": 2, "created": 0}))
    assert decide(w.nothing(job=ended, not_created=NotCreated(message="exceeded quota"))).attempt == 2
    assert decide(w.nothing(job=w.job(w.status(phase="Starting", pods={"wanted": 2, "created": 0})))).attempt == 2


def test_a_job_tells_the_others_whether_it_is_placing_or_waiting(w: Any) -> None:
    placing = rival_of(w.observed(w.pending(0), w.pending(1, node=None), agents={}))
    assert placing is not None and placing.placing
    waiting = rival_of(w.nothing(job=w.job(w.status(phase="Queued", attempt=None, conditions=[QUEUED]))))
    assert waiting is not None and (waiting.placing, waiting.waiting_since) == (False, NOW - 60)
    assert rival_of(w.observed()) is None
    assert rival_of(w.nothing(job=w.job(w.status(phase="Failed")))) is None
    assert rival_of(w.observed(w.pending(0, node=None), gang="kueue")) is None
