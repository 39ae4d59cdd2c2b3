"""Requests to the API server, and what becomes of its answers."""

from __future__ import annotations

import asyncio
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


async def test_an_object_is_deleted_only_if_it_is_the_one_that_was_meant(server: Any, client: Client) -> None:
    assert await client.delete("/api/v1/namespaces/team/pods/a", "u1", grace=0)
    assert await client.delete("/api/v1/namespaces/team/pods/b")
    first, second = (sent.body for sent in server.sent)
    assert first["preconditions"] == {"uid": "u1"} and first["gracePeriodSeconds"] == 0
    assert "preconditions" not in second and "gracePeriodSeconds" not in second
    assert {body["propagationPolicy"] for body in (first, second)} == {"Background"}


@pytest.mark.parametrize(("code", "gone"), [(404, True), (409, True), (403, False), (500, False)])
async def test_a_delete_of_what_is_gone_is_no_error_and_every_other_refusal_is(server: Any, client: Client, code: int, gone: bool) -> None:
    server.answer = lambda _: refusal(code, "No")
    if gone:
        assert not await client.delete("/api/v1/namespaces/team/pods/a", "u1")
    else:
        with pytest.raises(ApiError):
            await client.delete("/api/v1/namespaces/team/pods/a", "u1")


@pytest.mark.parametrize(
    ("write", "method", "content"),
    [
        ("create", "POST", "application/json"),
        ("replace", "PUT", "application/json"),
        ("merge", "PATCH", "application/merge-patch+json"),
        ("apply", "PATCH", "application/apply-patch+yaml"),
    ],
)
async def test_every_write_names_its_manager_and_its_kind_of_body(
    server: Any, client: Client, write: str, method: str, content: str
) -> None:
    body = {"metadata": {"name": "a", "annotations": {"note": "größer 😀"}}}
    await getattr(client, write)("/api/v1/namespaces/team/pods", body)
    (sent,) = server.sent
    assert (sent.method, sent.headers["Content-Type"], sent.body) == (method, content, body)
    assert sent.query["fieldManager"] == "llmtrain-operator"
    assert sent.query.get("force") == ("true" if write == "apply" else None)


@pytest.mark.parametrize(("path", "limit"), [("/api/v1/pods", "500"), ("/apis/llmtrain.io/v1alpha1/namespaces/team/llmtrainjobs", "50")])
async def test_pages_of_manifests_are_smaller_than_those_of_other_objects(server: Any, client: Client, path: str, limit: str) -> None:
    await client.list(path)
    assert server.sent[0].query["limit"] == limit


@pytest.mark.parametrize(("name", "part"), [("a/../b", "a%2F..%2Fb"), ("a?x=1", "a%3Fx%3D1"), ("a#b", "a%23b"), ("a b", "a%20b")])
def test_a_name_stays_one_part_of_a_path(name: str, part: str) -> None:
    assert path_of("v1", "Pod", "team", name) == f"/api/v1/namespaces/team/pods/{part}"
    assert path_of("v1", "Pod", name, "a") == f"/api/v1/namespaces/{part}/pods/a"


@pytest.mark.parametrize("name", [".", ".."])
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a name"):
        path_of("v1", "Pod", "team", name)


@pytest.mark.parametrize("body", [b"[]", b"null", b"3", b'"text"', b"", b"<html>"])
async def test_an_answer_that_is_no_object_is_no_answer(server: Any, client: Client, body: bytes) -> None:
    server.answer = lambda _: (200, body)
    with pytest.raises(ApiError, match="GET /api/v1/nodes/n0: the answer is not a JSON object") as raised:
        await client.get("/api/v1/nodes/n0")
    assert raised.value.code == 0


@pytest.mark.parametrize("body", [b"[1]", b"null", b'"no"', b"3"])
async def test_a_refusal_in_an_unknown_form_keeps_its_code_and_its_text(server: Any, client: Client, body: bytes) -> None:
    server.answer = lambda _: (418, body)
    with pytest.raises(ApiError, match=f"418: {body.decode()}".replace("[", r"\[")) as raised:
        await client.get("/api/v1/nodes/n0")
    assert raised.value.code == 418 and not raised.value.conflict


@pytest.mark.parametrize(
    ("log", "lines"),
    [
        (b"one\ntwo\n", [b"one", b"two"]),
        (b"one\nno end", [b"one", b"no end"]),
        (b"\n\nthree", [b"", b"", b"three"]),
        (b"x" * 300_000 + b"\nshort", [b"x" * 300_000, b"short"]),
        (b"", []),
    ],
    ids=["ended", "cut off", "empty lines", "longer than a buffer", "nothing"],
)
async def test_a_log_is_read_line_by_line_however_long_a_line_is(server: Any, client: Client, log: bytes, lines: list[bytes]) -> None:
    server.answer = lambda _: (200, log)
    assert [line async for line in client.lines("/api/v1/namespaces/team/pods/a/log", follow="true")] == lines
    assert server.sent[0].query == {"follow": "true"}


async def test_a_log_that_is_refused_says_why(server: Any, client: Client) -> None:
    server.answer = lambda _: refusal(400, "BadRequest")
    with pytest.raises(ApiError, match="BadRequest: it is BadRequest"):
        [line async for line in client.lines("/api/v1/namespaces/team/pods/a/log")]


async def test_a_log_whose_server_is_gone_is_an_api_error(client: Client) -> None:
    with pytest.raises(ApiError, match="GET /log") as raised:
        [line async for line in Client(client._http, "http://127.0.0.1:9", within=2).lines("/log")]
    assert raised.value.code == 0


async def test_an_answer_that_takes_too_long_is_no_answer(server: Any, client: Client) -> None:
    server.held["/slow"] = asyncio.Event()
    try:
        with pytest.raises(ApiError, match="GET /slow: ") as raised:
            await client.get("/slow", within=0.05)
    finally:
        server.held["/slow"].set()
    assert raised.value.code == 0
