"""Writes: what is sent, in which order, and what a refusal of one does to the others."""

from __future__ import annotations

from typing import Any

import pytest

from llmtrain_operator.kube.apply import create_gang, delete_pods, write_status
from llmtrain_operator.kube.client import ApiError, Client
from llmtrain_operator.life.decision import Deletion

JOB: dict[str, Any] = {
    "apiVersion": "llmtrain.io/v1alpha1",
    "kind": "LLMTrainJob",
    "metadata": {"name": "job", "namespace": "team", "uid": "u1", "managedFields": []},
    "status": {"phase": "Running"},
}


def refusal(code: int, reason: str) -> tuple[int, dict[str, Any]]:
    return code, {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": f"it is {reason}"}


def pod(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "team"}, "spec": {}}


async def test_a_gang_is_applied_before_its_pods_are_created_and_a_pod_that_exists_is_no_error(server: Any, client: Client) -> None:
    server.answer = lambda sent: (
        refusal(409, "AlreadyExists") if sent.method == "POST" and sent.body["metadata"]["name"] == "p1" else (200, {})
    )
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "team"}}
    await create_gang(client, [pod("p0"), service, pod("p1"), pod("p2")])
    assert [sent.method for sent in server.sent] == ["PATCH", "POST", "POST", "POST"]
    applied = server.sent[0]
    assert applied.path == "/api/v1/namespaces/team/services/s"
    assert applied.query == {"fieldManager": "llmtrain-operator", "force": "true"}
    assert applied.headers["Content-Type"] == "application/apply-patch+yaml"


async def test_one_pod_that_is_refused_does_not_keep_the_others_from_being_made(server: Any, client: Client) -> None:
    server.answer = lambda sent: refusal(403, "Forbidden") if sent.body["metadata"]["name"] == "p1" else (201, {})
    with pytest.raises(ApiError, match="Forbidden"):
        await create_gang(client, [pod(f"p{index}") for index in range(70)])
    assert {sent.body["metadata"]["name"] for sent in server.sent} == {f"p{index}" for index in range(70)}


async def test_what_the_first_pod_is_refused_for_is_not_asked_of_the_others(server: Any, client: Client) -> None:
    server.answer = lambda _: refusal(422, "Invalid")
    with pytest.raises(ApiError, match="Invalid"):
        await create_gang(client, [pod(f"p{index}") for index in range(70)])
    assert [sent.body["metadata"]["name"] for sent in server.sent] == ["p0"]


async def test_pods_are_deleted_by_uid_and_one_that_was_replaced_is_left(server: Any, client: Client) -> None:
    server.answer = lambda sent: refusal(409, "Conflict") if sent.path.endswith("p1") else (200, {})
    pods = [Deletion(name=f"p{index}", uid=f"u{index}", grace=0.0) for index in range(2)]
    assert await delete_pods(client, "team", pods) == 1
    assert server.sent[0].body["preconditions"] == {"uid": "u0"}
    assert server.sent[0].body["gracePeriodSeconds"] == 0


async def test_a_status_is_written_only_when_it_changed_and_only_to_the_same_job(server: Any, client: Client) -> None:
    assert not await write_status(client, JOB, {"phase": "Running"})
    assert server.sent == []
    assert await write_status(client, JOB, {"phase": "Complete"})
    body = server.sent[0].body
    assert server.sent[0].path.endswith("/llmtrainjobs/job/status")
    assert body["metadata"] == {"name": "job", "namespace": "team", "uid": "u1"} and body["status"] == {"phase": "Complete"}
