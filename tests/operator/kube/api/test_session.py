"""The middleware that every request goes through: the brake, the token, the measures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kopf
import pytest

from llmtrain_operator.kube.api.session import BRAKE_SECONDS, TOKEN_SECONDS, Sessions, resource_of
from llmtrain_operator.kube.metrics.operator import OperatorMetrics

PODS = "/api/v1/namespaces/team/pods"


class Time:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def sessions_for(server: Any, time: Time, token: Path | None = None) -> Sessions:
    return Sessions(kopf.ConnectionInfo(server=server.url), OperatorMetrics(), token, time, time.sleep)


async def test_a_watch_that_ends_at_once_is_opened_again_once_a_second(server: Any) -> None:
    time = Time()
    async with sessions_for(server, time).open() as http:
        for _ in range(10):
            async with http.get(server.url + PODS, params={"watch": "true"}):
                pass
    assert time.now == 50.0 + 9 * BRAKE_SECONDS


async def test_the_brake_holds_neither_other_requests_nor_watches_of_other_things(server: Any) -> None:
    time = Time()
    async with sessions_for(server, time).open() as http:
        for query in ({"watch": "true"}, {"watch": "true", "labelSelector": "a"}, {}, {}, {}):
            async with http.get(server.url + PODS, params=query):
                pass
    assert time.now == 50.0


async def test_a_token_that_was_replaced_is_used_within_a_minute(server: Any, tmp_path: Path) -> None:
    time, token = Time(), tmp_path / "token"
    token.write_text("first\n")
    async with sessions_for(server, time, token).open() as http:
        for _ in range(2):
            async with http.get(server.url + PODS):
                token.write_text("second\n")
        time.now += TOKEN_SECONDS + 1
        async with http.get(server.url + PODS):
            pass
    assert [sent.headers["Authorization"] for sent in server.sent] == ["Bearer first", "Bearer first", "Bearer second"]


async def test_requests_are_counted_by_verb_resource_and_code(server: Any) -> None:
    sessions = sessions_for(server, Time())
    async with sessions.open() as http:
        async with http.get(server.url + PODS):
            pass
        server.answer = lambda _: (409, {})
        async with http.patch(server.url + PODS + "/a/status", json={}):
            pass
    page = sessions.metrics.page().decode()
    assert 'llmtrain_api_request_seconds_count{code="200",resource="pods",verb="GET"} 1.0' in page
    assert 'llmtrain_api_request_seconds_count{code="409",resource="pods/status",verb="PATCH"} 1.0' in page


@pytest.mark.parametrize(
    ("path", "resource"),
    [
        ("/api/v1/namespaces/team/pods/a", "pods"),
        ("/api/v1/nodes/n0", "nodes"),
        ("/apis/llmtrain.io/v1alpha1/llmtrainjobs", "llmtrainjobs"),
        ("/apis/llmtrain.io/v1alpha1/namespaces/team/llmtrainjobs/a/status", "llmtrainjobs/status"),
        ("/apis/llmtrain.io/v1alpha1", "discovery"),
        ("/api/v1/namespaces/team", "namespaces"),
        ("/version", "discovery"),
    ],
)
def test_a_resource_label_does_not_grow_with_the_cluster(path: str, resource: str) -> None:
    assert resource_of(path) == resource
