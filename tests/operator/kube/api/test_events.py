"""Events: few, counted, never a reason to fail."""

from __future__ import annotations

from typing import Any

import pytest

from llmtrain_operator.kube.api.client import Client
from llmtrain_operator.kube.api.events import BURST, QUIET_SECONDS, REFILL_SECONDS, Recorder
from llmtrain_operator.kube.metrics.operator import OperatorMetrics

JOB: dict[str, Any] = {
    "apiVersion": "llmtrain.io/v1alpha1",
    "kind": "LLMTrainJob",
    "metadata": {"name": "job", "namespace": "team", "uid": "u1"},
}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recorder(client: Client, clock: Clock) -> Recorder:
    return Recorder(client, OperatorMetrics(), "replica", clock=clock, wall=lambda: 0.0)


async def test_the_same_sentence_is_posted_once_in_a_while(server: Any, recorder: Recorder, clock: Clock) -> None:
    assert await recorder.post(JOB, "Normal", "Running", "All pods run.")
    assert not await recorder.post(JOB, "Normal", "Running", "All pods run.")
    assert await recorder.post(JOB, "Warning", "Failed", "A rank failed.")
    clock.now += QUIET_SECONDS
    assert await recorder.post(JOB, "Normal", "Running", "All pods run.")
    assert [sent.body["reason"] for sent in server.sent] == ["Running", "Failed", "Running"]
    assert server.sent[0].body["involvedObject"]["uid"] == "u1"


async def test_a_job_that_fails_in_a_loop_has_a_budget_and_others_keep_theirs(server: Any, recorder: Recorder, clock: Clock) -> None:
    posted = [await recorder.post(JOB, "Warning", "Failed", f"Attempt {index} failed.") for index in range(BURST + 10)]
    assert sum(posted) == BURST
    other = {**JOB, "metadata": {**JOB["metadata"], "uid": "u2"}}
    assert await recorder.post(other, "Warning", "Failed", "Attempt 1 failed.")
    clock.now += REFILL_SECONDS
    assert await recorder.post(JOB, "Warning", "Failed", "Attempt 99 failed.")
    assert not await recorder.post(JOB, "Warning", "Failed", "Attempt 100 failed.")


async def test_after_a_restart_of_the_operator_the_count_grows(server: Any, recorder: Recorder) -> None:
    status = {"kind": "Status", "code": 409, "reason": "AlreadyExists", "message": "exists"}
    server.answer = lambda sent: (409, status) if sent.method == "POST" else (200, {"count": 4})
    assert await recorder.post(JOB, "Normal", "Running", "All pods run.")
    assert server.sent[-1].method == "PATCH" and server.sent[-1].body["count"] == 5
    assert server.sent[-1].path == server.sent[0].path + "/" + server.sent[0].body["metadata"]["name"]


async def test_an_event_that_is_refused_is_dropped(server: Any, recorder: Recorder) -> None:
    server.answer = lambda _: (403, {"reason": "Forbidden", "message": "no"})
    assert not await recorder.post(JOB, "Normal", "Running", "All pods run.")
