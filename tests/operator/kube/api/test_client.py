"""Requests to the API server, and what becomes of its answers."""

from __future__ import annotations

from typing import Any

import pytest

from llmtrain_operator.kube.api.client import ApiError, Client, path_of, path_to


def refusal(code: int, reason: str) -> tuple[int, dict[str, Any]]:
    return code, {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": f"it is {reason}"}


def test_paths_of_core_and_of_groups() -> None:
    assert path_of("v1", "Pod", "team") == "/api/v1/namespaces/team/pods"
    assert path_of("v1", "Node", name="n0") == "/api/v1/nodes/n0"
    job = {"apiVersion": "llmtrain.io/v1alpha1", "kind": "LLMTrainJob", "metadata": {"name": "job", "namespace": "team"}}
    assert path_to(job, "status") == "/apis/llmtrain.io/v1alpha1/namespaces/team/llmtrainjobs/job/status"


async def test_what_is_not_there_is_none_and_other_refusals_are_raised(server: Any, client: Client) -> None:
    server.answer = lambda _: refusal(404, "NotFound")
    assert await client.get("/api/v1/nodes/n0") is None
    server.answer = lambda _: refusal(403, "Forbidden")
    with pytest.raises(ApiError, match="Forbidden: it is Forbidden"):
        await client.get("/api/v1/nodes/n0")


async def test_a_refusal_that_is_no_json_is_still_a_refusal(server: Any, client: Client) -> None:
    server.answer = lambda _: (502, b"<html>bad gateway")
    with pytest.raises(ApiError, match="502: <html>"):
        await client.get("/api/v1/nodes/n0")


async def test_a_server_that_is_gone_is_an_api_error(client: Client, server: Any) -> None:
    gone = Client(client._http, "http://127.0.0.1:9", within=2)
    with pytest.raises(ApiError) as raised:
        await gone.get("/api/v1/nodes/n0")
    assert raised.value.code == 0


async def test_a_list_is_read_to_its_last_page(server: Any, client: Client) -> None:
    def answer(sent: Any) -> tuple[int, Any]:
        token = sent.query.get("continue")
        assert sent.query["labelSelector"] == "a=b"
        assert not (token and "resourceVersion" in sent.query), "the server refuses both together"
        return 200, {"items": [{"metadata": {"name": token or "1"}}], "metadata": {"continue": {None: "2", "2": "3"}.get(token)}}

    server.answer = answer
    found = await client.list("/api/v1/pods", labelSelector="a=b", resourceVersion="0")
    assert [one["metadata"]["name"] for one in found] == ["1", "2", "3"]
