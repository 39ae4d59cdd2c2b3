"""Gang schedulers: what a pod needs so that one admits it, and what their objects say of a gang."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.kube.api.client import ApiError, Client
from llmtrain_operator.kube.gangs.detect import GangApis, admission_of, gang_of, not_served
from llmtrain_operator.kube.gangs.gang_objects import gang_metadata, group_version, pod_group
from llmtrain_operator.kube.gangs.registry import SCHEDULERS
from llmtrain_operator.kube.render_settings import RenderSettings
from llmtrain_operator.life.observed import Admission, GangKind
from llmtrain_operator.manifest.parse import parse_manifest

ROOT = Path(__file__).parents[4]
SETTINGS = RenderSettings(image="trainer:1")
STAMP, SECONDS = "2027-01-15T08:00:00Z", 1_800_000_000.0
KUEUE, VOLCANO, PLUGINS = "kueue.x-k8s.io", "scheduling.volcano.sh", "scheduling.x-k8s.io"


def job(**scheduling: Any) -> LLMTrainJob:
    document = yaml.safe_load((ROOT / "examples/01-demo-2x2x2.yaml").read_text().replace("file://../out", "file:///data"))
    document["spec"]["scheduling"] = scheduling
    document["spec"]["resources"] = {"nodes": 2, "procsPerNode": 4}
    return parse_manifest(yaml.safe_dump(document))


def condition(kind: str, status: str, message: str | None = None) -> dict[str, Any]:
    return {"type": kind, "status": status, "lastTransitionTime": STAMP, **({"message": message} if message else {})}


WAITS = condition("QuotaReserved", "False", "no quota for 8 GPUs")
HOLDS = condition("QuotaReserved", "True", "Quota reserved in ClusterQueue team")
CHECKED = condition("Admitted", "False", "The workload has not all checks ready")
ADMITTED = condition("Admitted", "True", "The workload is admitted")
EVICTED = condition("Evicted", "True", "Preempted to accommodate a higher priority Workload")
ONCE_EVICTED = condition("Evicted", "False", "Requeued")


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([], Admission(admitted=False)),
        ([WAITS], Admission(admitted=False, message="no quota for 8 GPUs")),
        ([HOLDS, CHECKED], Admission(admitted=False, since=SECONDS, message="The workload has not all checks ready")),
        ([HOLDS, ADMITTED], Admission(admitted=True, since=SECONDS, message="The workload is admitted")),
        ([ADMITTED, EVICTED], Admission(admitted=True, since=SECONDS, evicted=True, message=EVICTED["message"])),
        ([WAITS, ONCE_EVICTED], Admission(admitted=False, message="no quota for 8 GPUs")),
        ([condition("Admitted", "Unknown")], Admission(admitted=False, since=SECONDS)),
    ],
    ids=["none", "no quota", "waits for checks", "admitted", "evicted", "evicted once", "unknown"],
)
def test_kueue_tells_whether_a_gang_is_admitted_and_what_it_waits_for(conditions: list[Any], expected: Admission) -> None:
    assert SCHEDULERS["kueue"].read({"status": {"conditions": conditions}}) == expected


@pytest.mark.parametrize("kind", ["volcano", "coscheduling"])
@pytest.mark.parametrize(
    ("phase", "admitted"),
    [
        (None, False),
        ("Pending", False),
        ("PreScheduling", False),
        ("Unknown", False),
        ("Failed", False),
        ("Inqueue", True),
        ("Scheduling", True),
        ("Scheduled", True),
        ("Running", True),
        ("Finished", True),
        ("Completed", True),
    ],
)
def test_a_pod_group_is_admitted_from_the_phase_in_which_its_pods_are_placed(kind: str, phase: str | None, admitted: bool) -> None:
    assert SCHEDULERS[kind].read({"status": {"phase": phase}}) == Admission(admitted=admitted)


@pytest.mark.parametrize(("status", "told"), [("True", "2/8 tasks in gang unschedulable"), ("False", ""), (None, "")])
def test_a_pod_group_says_why_it_fits_nowhere_only_while_that_holds(status: str | None, told: str) -> None:
    unschedulable = {"type": "Unschedulable", "status": status, "message": "2/8 tasks in gang unschedulable"}
    assert SCHEDULERS["volcano"].read({"status": {"phase": "Pending", "conditions": [unschedulable]}}).message == told


def test_kueue_groups_the_pods_of_one_attempt_and_no_others() -> None:
    pods = [gang_metadata(job(queue="team-a"), attempt, index, "kueue", SETTINGS) for attempt in (1, 2) for index in (0, 1)]
    groups = [pod.labels[f"{KUEUE}/pod-group-name"] for pod in pods]
    assert groups[0] == groups[1] != groups[2] == groups[3]
    assert [pod.labels[f"{KUEUE}/pod-group-pod-index"] for pod in pods] == ["0", "1", "0", "1"]
    assert {pod.labels[f"{KUEUE}/queue-name"] for pod in pods} == {"team-a"}
    assert {pod.annotations[f"{KUEUE}/pod-group-total-count"] for pod in pods} == {"2"}
    assert all(pod.scheduler is None for pod in pods)


def test_a_job_without_a_queue_names_none_and_asks_for_no_topology() -> None:
    found = gang_metadata(job(gang="kueue"), 1, 0, "kueue", SETTINGS)
    assert f"{KUEUE}/queue-name" not in found.labels
    assert not [name for name in found.annotations if "topology" in name]


@pytest.mark.parametrize("level", ["required", "preferred"])
def test_a_topology_is_asked_of_kueue_at_the_level_of_the_manifest(level: str) -> None:
    found = gang_metadata(job(queue="team-a", topology={level: "rack"}), 1, 0, "kueue", SETTINGS).annotations
    assert {name: value for name, value in found.items() if "topology" in name} == {f"{KUEUE}/podset-{level}-topology": "rack"}


def test_volcano_and_scheduler_plugins_place_the_pods_themselves_by_the_group() -> None:
    volcano, plugins = (gang_metadata(job(), 3, 0, kind, SETTINGS) for kind in ("volcano", "coscheduling"))
    assert (volcano.scheduler, plugins.scheduler) == ("volcano", SETTINGS.coscheduling_scheduler)
    group = pod_group(job(), 3, "volcano", SETTINGS)
    assert group is not None
    assert list(volcano.annotations.values()) == list(plugins.labels.values()) == [group["metadata"]["name"]]


@pytest.mark.parametrize("kind", ["operator", "none", "kueue"])
def test_a_gang_without_pod_groups_creates_none(kind: GangKind) -> None:
    assert pod_group(job(), 1, kind, SETTINGS) is None and group_version(kind, SETTINGS) is None


def test_a_job_that_no_gang_scheduler_admits_has_no_mark_of_one() -> None:
    found = gang_metadata(job(queue="team-a"), 1, 0, "operator", SETTINGS)
    assert (found.labels, found.annotations, found.scheduler) == ({}, {}, None)


@pytest.mark.parametrize(
    ("scheduling", "expected"),
    [
        ({}, {"minMember": 2}),
        ({"queue": "team-a"}, {"minMember": 2, "queue": "team-a"}),
        ({"priorityClassName": "high"}, {"minMember": 2, "priorityClassName": "high"}),
        ({"queue": "team-a", "priorityClassName": "high"}, {"minMember": 2, "queue": "team-a", "priorityClassName": "high"}),
    ],
)
def test_volcano_is_told_queue_and_priority_where_the_job_has_them(scheduling: dict[str, str], expected: dict[str, Any]) -> None:
    group = pod_group(job(**scheduling), 1, "volcano", SETTINGS)
    assert group is not None and group["spec"] == expected


@pytest.mark.parametrize(("kind", "api_group"), [("volcano", VOLCANO), ("coscheduling", PLUGINS)])
def test_a_pod_group_has_the_version_that_the_cluster_serves(kind: GangKind, api_group: str) -> None:
    served = RenderSettings(image="trainer:1", pod_group_versions={api_group: f"{api_group}/v9", "other.io": "other.io/v1"})
    by_default, preferred = (pod_group(job(), 1, kind, settings) for settings in (SETTINGS, served))
    assert by_default is not None and preferred is not None
    assert by_default["apiVersion"] == SCHEDULERS[kind].version and preferred["apiVersion"] == f"{api_group}/v9"


def groups(*names: str) -> dict[str, Any]:
    return {"groups": [{"name": name, "preferredVersion": {"groupVersion": f"{name}/v7"}} for name in names]}


@pytest.mark.parametrize(
    ("answer", "known"),
    [
        (groups(VOLCANO, "apps", KUEUE), {KUEUE: f"{KUEUE}/v7", VOLCANO: f"{VOLCANO}/v7"}),
        (groups("apps"), {}),
        ({"groups": None}, {}),
        ({}, {}),
    ],
)
async def test_the_gang_schedulers_of_a_cluster_are_those_whose_api_it_serves(
    server: Any, client: Client, answer: Any, known: dict[str, str]
) -> None:
    server.answer = lambda _: (200, answer)
    assert (await GangApis.of(client)).versions == known


async def test_a_cluster_that_does_not_say_what_it_serves_is_an_error_and_not_a_cluster_without(server: Any, client: Client) -> None:
    server.answer = lambda _: (503, {"reason": "ServiceUnavailable", "message": "later"})
    with pytest.raises(ApiError):
        await GangApis.of(client)


def test_a_manifest_that_cannot_be_read_waits_for_no_gang_scheduler() -> None:
    apis = GangApis(versions={KUEUE: f"{KUEUE}/v1beta1"})
    assert gang_of(None, apis) == "operator" and not_served(None, apis) is None


@pytest.mark.parametrize("gang", ["none", "auto"])
def test_what_needs_no_installed_program_is_never_refused(gang: str) -> None:
    assert not_served(job(gang=gang).spec, GangApis(versions={})) is None


def test_the_refusal_names_the_program_and_both_ways_out() -> None:
    said = not_served(job(gang="coscheduling").spec, GangApis(versions={VOLCANO: f"{VOLCANO}/v1"}))
    assert said is not None
    assert "spec.scheduling.gang is coscheduling" in said and PLUGINS in said
    assert "Install scheduler-plugins and restart the operator, or leave gang out" in said


@pytest.mark.parametrize(
    ("kind", "versions", "path"),
    [
        ("kueue", {}, f"/apis/{KUEUE}/v1beta1/namespaces/team/workloads/demo-a1"),
        ("kueue", {KUEUE: f"{KUEUE}/v1"}, f"/apis/{KUEUE}/v1/namespaces/team/workloads/demo-a1"),
        ("volcano", {}, f"/apis/{VOLCANO}/v1beta1/namespaces/team/podgroups/demo-a1"),
        ("coscheduling", {PLUGINS: f"{PLUGINS}/v2"}, f"/apis/{PLUGINS}/v2/namespaces/team/podgroups/demo-a1"),
    ],
)
async def test_the_admission_is_read_from_the_object_of_the_attempt_in_the_preferred_version(
    server: Any, client: Client, kind: GangKind, versions: dict[str, str], path: str
) -> None:
    found = {"status": {"phase": "Running", "conditions": [ADMITTED]}}
    server.answer = lambda sent: (200, found) if sent.path == path else (404, {"reason": "NotFound", "message": sent.path})
    admission = await admission_of(client, GangApis(versions=versions), kind, "team", "demo-a1")
    assert admission is not None and admission.admitted


async def test_a_gang_that_its_scheduler_does_not_know_yet_is_not_taken_for_one_that_waits(server: Any, client: Client) -> None:
    server.answer = lambda _: (404, {"reason": "NotFound", "message": "no"})
    assert await admission_of(client, GangApis(versions={}), "kueue", "team", "demo-a1") is None
    assert await admission_of(client, GangApis(versions={}), "operator", "team", "demo-a1") is None
    assert len(server.sent) == 1, "the operator's own order has no object to read"


@pytest.mark.parametrize(
    "found", [{}, {"status": None}, {"status": {"conditions": "no"}}, {"status": {"phase": 3}}, [], None], ids=json.dumps
)
def test_an_object_in_a_form_that_nobody_knows_admits_nothing(found: object) -> None:
    assert [scheduler.read(found).admitted for scheduler in SCHEDULERS.values()] == [False] * 3
