"""Why a job does not run, in one sentence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.operator.life.policies.table import NOW, RAN, Case

from llmtrain_operator.life.decide import decide
from llmtrain_operator.life.decision import Action
from llmtrain_operator.life.observed import Admission, NotCreated, Observed, Warned


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
        "namespace",
        lambda w: refused(w, f"{FORBIDDEN}unable to create new content in namespace default because it is being terminated"),
        "Namespace team is being deleted, and no pod can be created in it.",
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


def test_a_job_whose_pods_are_refused_stays_pending_at_each_try(w: Any) -> None:
    said = "unable to create new content in namespace default because it is being terminated"
    seen = refused(w, said)
    assert seen.not_created is not None
    tries = [replace(seen, not_created=replace(seen.not_created, until=until)) for until in (seen.now + 60.0, seen.now - 1.0)]
    assert {(decide(each).phase, decide(each).reason) for each in tries} == {("Pending", "NamespaceTerminating")}
    assert [decide(each).action for each in tries] == [Action.NOTHING, Action.CREATE]
