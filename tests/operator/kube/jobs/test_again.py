"""When a job is looked at again though nothing was heard of it."""

from __future__ import annotations

from typing import Any

import pytest

from llmtrain_operator.api.job import Status
from llmtrain_operator.kube.jobs.reconcile import ACTED, DORMANT, RESYNC, again_in
from llmtrain_operator.life.decision import Action, Decision
from llmtrain_operator.life.from_objects import job_of
from llmtrain_operator.life.observed import Observed


def decided(**facts: Any) -> Decision:
    return Decision(**({"phase": "Running", "reason": "Training", "message": ""} | facts))


@pytest.mark.parametrize(
    ("decision", "lives", "seconds"),
    [
        pytest.param(decided(again_in=30.0), None, 30.0, id="as decided"),
        pytest.param(decided(again_in=86_400.0), None, RESYNC, id="a wait that is long is looked at in between"),
        pytest.param(decided(), None, RESYNC, id="nothing decided"),
        pytest.param(
            decided(action=Action.DELETE_PODS), None, ACTED, id="pods were deleted, and the watch may have missed that they are gone"
        ),
        pytest.param(decided(phase="Complete"), None, DORMANT, id="a job that is over"),
        pytest.param(decided(phase="Failed"), 60, 60.0, id="a job that is over and to be deleted"),
    ],
)
def test_a_job_is_looked_at_again(decision: Decision, lives: int | None, seconds: float) -> None:
    training = {"globalBatchSize": 8, "sequenceLength": 64, "maxSteps": 1}
    spec: dict[str, Any] = {"model": {"source": "hf://acme/tiny"}, "dataset": [{"source": "hf://acme/text"}], "training": training}
    spec |= {"ttlSecondsAfterFinished": lives} if lives is not None else {}
    manifest = {"apiVersion": "llmtrain.io/v1alpha1", "kind": "LLMTrainJob", "metadata": {"name": "job"}, "spec": spec}
    job = job_of(manifest)
    assert job.status == Status()
    assert again_in(Observed(now=0.0, job=job), decision) == seconds
