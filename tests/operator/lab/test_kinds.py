"""A second kind, cluster-scoped with a status of its own, beside jobs: queue, watches and workers serve both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from tests.operator.lab.lab import T0, Lab

from llmtrain_operator.kube.api import client
from llmtrain_operator.kube.api.client import ApiError, Object, path_of
from llmtrain_operator.kube.api.events import event_of
from llmtrain_operator.kube.jobs.apply import write_status
from llmtrain_operator.kube.kind import Controller, Follow, Kind, Leading
from llmtrain_operator.kube.names import Key, ObjectName
from llmtrain_operator.kube.process.handlers import collections_of, settings_of
from llmtrain_operator.kube.process.kinds import KINDS
from llmtrain_operator.kube.resources import Resource
from llmtrain_operator.life.from_objects import LABEL_JOB

TALLIES = Resource(kind="Tally", plural="tallies", namespaced=False)
LABEL = "example.com/tally"


class Tallies:
    """Counts the ConfigMaps that carry its name, into its status."""

    def __init__(self, leading: Leading) -> None:
        self.leading, self.calls = leading, list[ObjectName]()
        self.taken_over: Sequence[str] | None = None

    async def take_over(self, namespaces: Sequence[str]) -> None:
        self.taken_over = namespaces

    async def reconcile(self, key: ObjectName) -> float | None:
        self.calls.append(key)
        found = await self.leading.client.get(path_of(TALLIES.api_version, TALLIES.kind, name=key[1]))
        if found is None:
            return None
        if found["spec"].get("refused"):
            raise ApiError(403, "Forbidden", "no tallies here")
        maps = await self.leading.client.list(path_of("v1", "ConfigMap"), labelSelector=f"{LABEL}={key[1]}")
        await write_status(self.leading.client, found, {"count": len(maps)})
        return 300.0


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Tallies]:
    monkeypatch.setitem(client.PLURALS, TALLIES.kind, TALLIES.plural)
    return []


def kind(made: list[Tallies]) -> Kind:
    @asynccontextmanager
    async def begin(leading: Leading) -> AsyncIterator[Controller]:
        made.append(Tallies(leading))
        yield made[-1]

    return Kind(resource=TALLIES, follows=(Follow(version="v1", kind="ConfigMap", plural="configmaps", label=LABEL),), begin=begin)


def tally(name: str, **spec: object) -> Object:
    return {"apiVersion": TALLIES.api_version, "kind": TALLIES.kind, "metadata": {"name": name, "generation": 1}, "spec": spec}


def config_map(name: str, of: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "team", "labels": {LABEL: of}}}


async def test_a_job_and_an_object_of_another_kind_with_its_name_are_reconciled_each_by_its_own_controller(made: list[Tallies]) -> None:
    lab = Lab(kinds=(kind(made),))
    job, other = lab.submit("one"), lab.server.put(tally("one"))
    await lab.run(30)
    assert lab.status(job)["phase"] == "Running" and other["status"] == {"count": 0}
    assert set(made[0].calls) == {("", "one")} and made[0].taken_over == ()
    before = len(made[0].calls)
    lab.edit(job, suspend=True)
    await lab.run(30)
    assert lab.status(job)["phase"] in ("Suspending", "Suspended")
    assert len(made[0].calls) == before, "what happens to a job is none of the other's news"


async def test_an_object_that_another_kind_follows_leads_to_a_look_at_the_one_that_it_names(made: list[Tallies]) -> None:
    lab = Lab(nodes=0, kinds=(kind(made),))
    one, two = lab.server.put(tally("one")), lab.server.put(tally("two"))
    await lab.run(5)
    lab.server.put(config_map("a", "one"))
    lab.server.put(config_map("b", "one"))
    await lab.run(5)
    assert (one["status"], two["status"]) == ({"count": 2}, {"count": 0})
    assert made[0].calls.count(("", "two")) == 1, "its own status and the other's objects are no news of it"
    await lab.run(600, tick=5)
    assert made[0].calls.count(("", "two")) == 3, "without an event it is looked at after the time that its controller gave"


async def test_an_error_of_one_kind_is_tried_again_and_holds_up_no_other(made: list[Tallies]) -> None:
    lab = Lab(kinds=(kind(made),))
    lab.server.put(tally("bad", refused=True))
    job = lab.submit("one")
    await lab.run(60)
    assert lab.status(job)["phase"] == "Running"
    assert {key for _, key, _ in lab.errors} == {Key("Tally", "", "bad")} and len(lab.errors) > 3
    lab.server.remove(path_of(TALLIES.api_version, TALLIES.kind, name="bad"))
    calls = len(made[0].calls)
    await lab.run(3600, tick=10)
    assert len(made[0].calls) <= calls + 1, "one that is gone is forgotten"


async def test_a_fresh_operator_takes_over_every_kind(made: list[Tallies]) -> None:
    lab = Lab(nodes=0, kinds=(kind(made),))
    lab.server.put(tally("one"))
    await lab.run(5)
    lab.operator_starts()
    lab.server.put(config_map("a", "one"))
    await lab.run(5)
    assert len(made) == 2 and made[1].calls == [("", "one")]


def test_each_kind_and_what_it_follows_is_watched_once(made: list[Tallies]) -> None:
    kinds = (*KINDS, kind(made))
    assert collections_of(["a", "b"], kinds) == [
        "/apis/llmtrain.io/v1alpha1/namespaces/a/llmtrainjobs",
        "/apis/llmtrain.io/v1alpha1/namespaces/b/llmtrainjobs",
        "/apis/llmtrain.io/v1alpha1/tallies",
        "/api/v1/namespaces/a/pods",
        "/api/v1/namespaces/a/configmaps",
        "/api/v1/namespaces/b/pods",
        "/api/v1/namespaces/b/configmaps",
    ]
    labels = settings_of("replica", kinds).watching.label_selectors
    assert {selector.any_name: label for selector, label in labels.items()} == {"pods": LABEL_JOB, "configmaps": LABEL}


def test_two_kinds_that_follow_one_collection_by_different_labels_watch_all_of_it(made: list[Tallies]) -> None:
    other = replace(kind(made).follows[0], label="other")
    assert not settings_of("replica", (kind(made), replace(kind(made), follows=(other,)))).watching.label_selectors


def test_an_event_on_an_object_without_namespace_names_its_own_kind() -> None:
    about = tally("one")
    about["metadata"]["uid"] = "u1"
    event = event_of(about, "one.1", "Normal", "Counted", "It counted.", "replica", T0)
    assert event["metadata"]["namespace"] == "default"
    assert event["involvedObject"] == {"apiVersion": TALLIES.api_version, "kind": "Tally", "name": "one", "uid": "u1"}
