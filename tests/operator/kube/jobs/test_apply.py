"""Writes: what is sent, in which order, whose an object is, and what a refusal of one does to the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llmtrain_operator.kube.api.client import Client
from llmtrain_operator.kube.jobs.apply import NotCreatedError, create_gang, delete_pods, write_status
from llmtrain_operator.kube.names import object_labels
from llmtrain_operator.kube.render.config_map import SECRET
from llmtrain_operator.life.decision import Deletion

JOB: dict[str, Any] = {
    "apiVersion": "llmtrain.io/v1alpha1",
    "kind": "LLMTrainJob",
    "metadata": {"name": "job", "namespace": "team", "uid": "u1", "managedFields": []},
    "status": {"phase": "Running"},
}
LABELS = {**object_labels("job"), "llmtrain.io/job-uid": "u1"}


def refusal(code: int, reason: str) -> tuple[int, dict[str, Any]]:
    return code, {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": f"it is {reason}"}


def made(kind: str, name: str, uid: str = "u1", **more: Any) -> dict[str, Any]:
    """An object as render.py makes it for the job with this uid."""
    owner = {"apiVersion": "llmtrain.io/v1alpha1", "kind": "LLMTrainJob", "name": "job", "uid": uid, "controller": True}
    labels = {**LABELS, "llmtrain.io/job-uid": uid}
    meta = {"name": name, "namespace": "team", "labels": labels, "ownerReferences": [owner]}
    return {"apiVersion": "v1", "kind": kind, "metadata": meta, **more}


def pod(name: str) -> dict[str, Any]:
    return made("Pod", name, spec={})


class There:
    """A server on which objects are, by name."""

    def __init__(self, server: Any, *found: dict[str, Any]) -> None:
        self.server, self.found = server, {one["metadata"]["name"]: one for one in found}
        server.answer = self.answer

    def answer(self, sent: Any) -> tuple[int, Any]:
        name = sent.body["metadata"]["name"] if sent.method == "POST" else sent.path.rsplit("/", 1)[1]
        there = self.found.get(name)
        if sent.method == "DELETE":
            return 200, self.found.pop(name)
        if sent.method == "POST":
            return (201, sent.body) if there is None else refusal(409, "AlreadyExists")
        return (200, there) if there is not None else refusal(404, "NotFound")

    @property
    def asked(self) -> list[str]:
        return [sent.method for sent in self.server.sent]


def without_owner(found: dict[str, Any], **labels: str) -> dict[str, Any]:
    meta = {**found["metadata"], "uid": "theirs"}
    meta.pop("ownerReferences")
    return {**found, "metadata": {**meta, "labels": {**meta["labels"], **labels}}}


async def test_everything_of_a_gang_is_there_before_its_pods_are_created(server: Any, client: Client) -> None:
    There(server)
    await create_gang(client, [pod("job-a1-0"), made("Service", "ltj-job"), pod("job-a1-1"), pod("job-a1-2")])
    assert [(sent.method, sent.path.rsplit("/", 1)[1]) for sent in server.sent] == [("POST", "services"), *[("POST", "pods")] * 3]
    assert server.sent[0].query == {"fieldManager": "llmtrain-operator"}


async def test_what_is_the_jobs_own_already_is_brought_up_to_date_or_left(server: Any, client: Client) -> None:
    service, config, second = made("Service", "ltj-job"), made("ConfigMap", "job-a1", data={"a": "1"}), pod("job-a1-1")
    service["metadata"]["uid"] = "s1"
    there = There(server, service, config, second)
    await create_gang(client, [made("Service", "ltj-job"), made("ConfigMap", "job-a1", data={"a": "1"}), pod("job-a1-0"), pod("job-a1-1")])
    (patch,) = [sent for sent in server.sent if sent.method == "PATCH"]
    assert patch.path == "/api/v1/namespaces/team/services/ltj-job" and patch.body["metadata"]["uid"] == "s1"
    assert patch.headers["Content-Type"] == "application/apply-patch+yaml"
    assert "DELETE" not in there.asked


@pytest.mark.parametrize(("fresh", "replaced"), [(True, True), (False, False)])
async def test_the_config_map_of_an_older_manifest_gives_way_while_no_pod_has_read_it(
    server: Any, client: Client, fresh: bool, replaced: bool
) -> None:
    there = There(server, made("ConfigMap", "job-a1", data={"a": "old"}))
    await create_gang(client, [made("ConfigMap", "job-a1", data={"a": "new"}), pod("job-a1-0")], fresh=fresh)
    assert ("DELETE" in there.asked) is replaced


async def test_a_secret_that_is_drawn_again_leaves_the_config_map_alone(server: Any, client: Client) -> None:
    there = There(server, made("ConfigMap", "job-a1", data={"a": "1", SECRET: "the first"}))
    await create_gang(client, [made("ConfigMap", "job-a1", data={"a": "1", SECRET: "the second"}), pod("job-a1-0")], fresh=True)
    assert "DELETE" not in there.asked, "a pod may have started with the first, unheard of as yet"


KINDS = [made("ConfigMap", "job-a1", data={"trainer.json": "{}"}), made("Service", "ltj-job"), pod("job-a1-0"), pod("job-a1-1")]
FOREIGN: list[tuple[str, Callable[[dict[str, Any]], dict[str, Any]]]] = [
    ("has no owner", lambda found: {**without_owner(found), "metadata": {**without_owner(found)["metadata"], "labels": None}}),
    ("has borrowed the job's label", lambda found: without_owner(found, **{"llmtrain.io/job-uid": ""})),
    ("has a ReplicaSet", lambda found: {**found, "metadata": {**found["metadata"], "ownerReferences": [
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "r1", "controller": True}]}}),
    ("is another job's", lambda found: {**found, "metadata": {**found["metadata"], "ownerReferences": [
        {"apiVersion": "llmtrain.io/v1alpha1", "kind": "LLMTrainJob", "name": "job-a1", "uid": "u9", "controller": True}]}}),
]  # fmt: skip


@pytest.mark.parametrize("wanted", KINDS, ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
@pytest.mark.parametrize(("whose", "foreign"), FOREIGN, ids=[row[0] for row in FOREIGN])
async def test_what_is_somebody_elses_is_neither_changed_nor_deleted_and_is_named(
    server: Any, client: Client, wanted: dict[str, Any], whose: str, foreign: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    there = There(server, foreign(wanted))
    name = f"{wanted['kind']} {wanted['metadata']['name']}"
    with pytest.raises(NotCreatedError, match=f"{name} of namespace team belongs to .*Delete it .*or give the job another name") as told:
        await create_gang(client, KINDS)
    assert told.value.taken and told.value.pods == (name == "Pod job-a1-1")
    assert not {"PATCH", "DELETE", "PUT"} & set(there.asked)


@pytest.mark.parametrize("orphan", [True, False])
async def test_what_an_earlier_job_of_the_name_left_behind_gives_way(server: Any, client: Client, orphan: bool) -> None:
    old = made("ConfigMap", "job-a1", uid="u0", data={"a": "old"})
    there = There(server, without_owner(old) if orphan else old)
    await create_gang(client, [made("ConfigMap", "job-a1", data={"a": "new"})])
    assert there.asked == ["POST", "GET", "DELETE", "POST"]


async def test_one_pod_that_is_refused_does_not_keep_the_others_from_being_made(server: Any, client: Client) -> None:
    server.answer = lambda sent: refusal(403, "Forbidden") if sent.body["metadata"]["name"] == "p1" else (201, {})
    with pytest.raises(NotCreatedError, match="Forbidden") as told:
        await create_gang(client, [pod(f"p{index}") for index in range(70)])
    assert {sent.body["metadata"]["name"] for sent in server.sent} == {f"p{index}" for index in range(70)}
    assert (told.value.code, told.value.pods, told.value.taken) == (403, True, False)


async def test_what_the_first_pod_is_refused_for_is_not_asked_of_the_others(server: Any, client: Client) -> None:
    server.answer = lambda _: refusal(422, "Invalid")
    with pytest.raises(NotCreatedError, match="Invalid") as told:
        await create_gang(client, [pod(f"p{index}") for index in range(70)])
    assert [sent.body["metadata"]["name"] for sent in server.sent] == ["p0"] and not told.value.pods


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
