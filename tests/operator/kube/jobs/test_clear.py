"""What attempts that are over leave behind is deleted, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from llmtrain_operator.kube.api.client import Client
from llmtrain_operator.kube.jobs.clear import clear_attempts
from llmtrain_operator.life.from_objects import job_of

JOB = job_of({"metadata": {"name": "demo", "namespace": "team", "uid": "u1"}})
MAPS = "/api/v1/namespaces/team/configmaps"
KINDS = (("v1", "ConfigMap"), ("scheduling.volcano.sh/v1beta1", "PodGroup"))


def made(name: str, attempt: str | None, uid: str = "u1", controller: Any = True) -> dict[str, Any]:
    labels = {"llmtrain.io/job": "demo"} | ({"llmtrain.io/attempt": attempt} if attempt is not None else {})
    return {"metadata": {"name": name, "uid": f"of-{name}", "labels": labels, "ownerReferences": [{"uid": uid, "controller": controller}]}}


def answering(server: Any, *maps: dict[str, Any], refuse: str | None = None, code: int = 403) -> None:
    def answer(sent: Any) -> tuple[int, Any]:
        if sent.method == refuse:
            return code, {"reason": "No", "message": "no"}
        return 200, {"items": list(maps) if sent.path == MAPS else []}

    server.answer = answer


def deleted(server: Any) -> list[tuple[str, str]]:
    sent = [one for one in server.sent if one.method == "DELETE"]
    return sorted((one.path, one.body["preconditions"]["uid"]) for one in sent)


async def test_objects_of_attempts_up_to_the_last_are_deleted_by_uid_and_newer_ones_stay(server: Any, client: Client) -> None:
    answering(server, made("demo-a1", "1"), made("demo-a2", "2"), made("demo-a3", "3"))
    assert await clear_attempts(client, JOB, 2, KINDS)
    assert deleted(server) == [(f"{MAPS}/demo-a1", "of-demo-a1"), (f"{MAPS}/demo-a2", "of-demo-a2")]


@pytest.mark.parametrize(
    "other",
    [
        made("foreign", "1", uid="u2"),
        made("shared", "1", controller=None),
        made("unnumbered", None),
        made("odd", "1.5"),
        made("digits of elsewhere", "\u0661"),
        made("negative", "-1"),
        {"metadata": {"name": "unowned", "uid": "x", "labels": {"llmtrain.io/attempt": "1"}, "ownerReferences": None}},
        {"metadata": {"name": "unlabelled", "uid": "x", "labels": None, "ownerReferences": [{"uid": "u1", "controller": True}]}},
    ],
    ids=lambda other: other["metadata"]["name"],
)
async def test_what_is_not_known_to_be_of_an_attempt_of_this_job_stays(server: Any, client: Client, other: dict[str, Any]) -> None:
    answering(server, other, made("demo-a1", "1"))
    assert await clear_attempts(client, JOB, 9, KINDS)
    assert deleted(server) == [(f"{MAPS}/demo-a1", "of-demo-a1")]


async def test_each_kind_is_looked_for_by_the_label_of_the_job(server: Any, client: Client) -> None:
    answering(server)
    await clear_attempts(client, JOB, 1, KINDS)
    assert [(one.path, one.query["labelSelector"]) for one in server.sent] == [
        (MAPS, "llmtrain.io/job=demo"),
        ("/apis/scheduling.volcano.sh/v1beta1/namespaces/team/podgroups", "llmtrain.io/job=demo"),
    ]


@pytest.mark.parametrize("refuse", ["GET", "DELETE"])
async def test_a_refusal_stops_no_job_and_says_that_something_is_left(server: Any, client: Client, refuse: str) -> None:
    answering(server, made("demo-a1", "1"), refuse=refuse)
    assert not await clear_attempts(client, JOB, 1, KINDS)


@pytest.mark.parametrize("code", [404, 409])
async def test_an_object_that_is_gone_or_was_replaced_counts_as_deleted(server: Any, client: Client, code: int) -> None:
    answering(server, made("demo-a1", "1"), refuse="DELETE", code=code)
    assert await clear_attempts(client, JOB, 1, KINDS)
