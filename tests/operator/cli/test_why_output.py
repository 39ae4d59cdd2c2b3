"""`llmtrain why`: what a person reads, with whatever rights, and while no operator runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.operator.cli.small_spec import SPEC as SMALL

JOB = "/apis/llmtrain.io/v1alpha1/namespaces/team/llmtrainjobs/demo"
PODS, EVENTS = "/api/v1/namespaces/team/pods", "/api/v1/namespaces/team/events"
LEASES = "/apis/coordination.k8s.io/v1/leases"
SPEC = {**SMALL, "resources": {"nodes": 2, "procsPerNode": 1}}
Run = Callable[..., Any]


def ago(seconds: float) -> str:
    return datetime.fromtimestamp(time.time() - seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def event(about: str, reason: str, message: str, seconds: float, **more: Any) -> dict[str, Any]:
    kind = "LLMTrainJob" if about == "demo" else "Pod"
    found = {"metadata": {"name": f"{about}.{reason}"}, "involvedObject": {"kind": kind, "name": about}, "type": "Warning"}
    return {**found, "reason": reason, "message": message, "lastTimestamp": ago(seconds), **more}


class Seen:
    """A submitted job of two pods, the operator's lease and events, as the API server has them."""

    def __init__(self, api: Any) -> None:
        self.api, self.events = api, list[dict[str, Any]]()
        self.forbidden: tuple[str, ...] = ()
        api.objects["/apis"] = {"groups": []}
        api.objects[PODS] = {"items": []}
        self.lease(1)
        self.job = api.add("demo", spec=SPEC, status={"phase": "Pending", "observedGeneration": 1, "message": "Not created yet."})
        api.rule = self.rule

    def lease(self, seconds: float | None) -> None:
        found = {"metadata": {"name": "llmtrain-leader", "namespace": "ops"}, "spec": {"renewTime": ago(seconds or 0)}}
        self.api.objects[LEASES] = {"items": [] if seconds is None else [found]}

    def pod(self, index: int, **status: Any) -> dict[str, Any]:
        owner = {"apiVersion": "llmtrain.io/v1alpha1", "kind": "LLMTrainJob", "name": "demo", "uid": "uid-demo", "controller": True}
        labels = {"llmtrain.io/job": "demo", "llmtrain.io/attempt": "1", "llmtrain.io/index": str(index)}
        meta = {"name": f"demo-a1-{index}", "namespace": "team", "uid": f"p{index}", "labels": labels, "ownerReferences": [owner]}
        pod = {"metadata": {**meta, "creationTimestamp": ago(120)}, "spec": {"containers": []}, "status": {"phase": "Pending", **status}}
        self.api.objects[PODS]["items"].append(pod)
        return pod

    def rule(self, request: Any) -> tuple[int, Any] | None:
        if any(part in request.path for part in self.forbidden):
            return 403, {"reason": "Forbidden", "message": f"{request.path} is forbidden"}
        if request.path == EVENTS:
            chosen = dict(part.split("=") for part in request.query.get("fieldSelector", "").split(",") if part)
            kind, name = chosen.get("involvedObject.kind"), chosen.get("involvedObject.name")
            about = [(one, one["involvedObject"]) for one in self.events]
            return 200, {"items": [one for one, of in about if kind in (None, of["kind"]) and name in (None, of["name"])]}
        return None


@pytest.fixture
def seen(api: Any) -> Seen:
    return Seen(api)


def unschedulable(message: str) -> dict[str, Any]:
    return {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]}


def lines_after(out: str, head: str) -> list[str]:
    lines = out.splitlines()
    return lines[next(index for index, line in enumerate(lines) if line.startswith(head)) + 1 :]


def test_the_first_line_is_the_state_and_each_pod_that_waits_says_why(seen: Seen, llmtrain: Run) -> None:
    for index in (0, 1):
        seen.pod(index, **unschedulable("0/2 nodes are available: 2 Insufficient cpu."))
    seen.job["status"] |= {"phase": "Starting", "attempt": 1, "pods": {"wanted": 2, "created": 2}}
    said = llmtrain("why", "demo")
    assert said.code == 0 and said.out.splitlines()[0].startswith("demo is Starting: ")
    assert "0/2 nodes are available: 2 Insufficient cpu." in said.out.splitlines()[0]
    assert [line.split()[:3] for line in lines_after(said.out, "pods")] == [["demo-a1-0", "Pending", "-"], ["demo-a1-1", "Pending", "-"]]


def test_a_job_that_is_not_there_is_told_with_the_nearest_name(seen: Seen, llmtrain: Run) -> None:
    said = llmtrain("why", "demmo")
    assert (said.code, said.out, said.err) == (2, "", "There is no job demmo in namespace team. Did you mean demo?\n")


@pytest.mark.parametrize(
    ("renewed", "told"),
    [
        (None, "No operator is at work: none holds a lease."),
        (400, "No operator is at work: its lease llmtrain-leader in namespace ops was last renewed 6m"),
    ],
)
def test_without_an_operator_it_says_so_first_and_that_pods_continue(seen: Seen, llmtrain: Run, renewed: float | None, told: str) -> None:
    seen.lease(renewed)
    first = llmtrain("why", "demo").out.splitlines()[0]
    assert first.startswith(f"demo is Pending: {told}") and first.endswith("Running pods continue; nothing new starts.")


def test_the_newest_of_several_leases_counts(seen: Seen, llmtrain: Run) -> None:
    seen.lease(9000)
    seen.api.objects[LEASES]["items"] += [
        {"metadata": {"name": "other", "namespace": "b"}, "spec": {"renewTime": ago(2)}},
        {"metadata": {"name": "no-time", "namespace": "c"}, "spec": None},
    ]
    assert "No operator" not in llmtrain("why", "demo").out


def test_a_person_who_may_not_read_leases_is_not_told_that_no_operator_runs(seen: Seen, llmtrain: Run) -> None:
    seen.forbidden = (LEASES,)
    said = llmtrain("why", "demo")
    assert said.code == 0 and "No operator" not in said.out


def test_a_person_who_may_not_read_events_gets_the_rest(seen: Seen, llmtrain: Run) -> None:
    seen.pod(0, **unschedulable("0/2 nodes are available: 2 Insufficient cpu."))
    seen.events = [event("demo-a1-0", "FailedScheduling", "hidden", 5)]
    seen.forbidden = ("/events",)
    said = llmtrain("why", "demo")
    assert said.code == 0 and "Insufficient cpu" in said.out and "hidden" not in said.out and "\nevents" not in said.out


@pytest.mark.parametrize("part", [JOB, PODS, "/apis"])
def test_a_person_who_may_not_read_the_job_or_its_pods_is_told_what_is_missing(seen: Seen, llmtrain: Run, part: str) -> None:
    seen.forbidden = (part,)
    said = llmtrain("why", "demo")
    assert said.code == 2 and said.out == ""
    assert said.err.startswith("You are not allowed to do this: ") and "Ask for a role that allows it" in said.err


def test_events_of_the_job_and_of_its_pods_come_oldest_first_and_those_of_others_not_at_all(seen: Seen, llmtrain: Run) -> None:
    seen.pod(0)
    seen.events = [
        event("demo-a1-0", "FailedMount", "volume is missing", 30),
        event("demo", "Starting", "Attempt 1 starts.", 90),
        event("other-a1-0", "FailedMount", "of somebody else", 10),
        event("demo", "Planned", "dp2 with native", 3665),
    ]
    told = [line.split("   ") for line in lines_after(llmtrain("why", "demo").out, "events")]
    assert [[cell.strip() for cell in row if cell.strip()][1:] for row in told] == [
        ["Planned", "demo", "dp2 with native"],
        ["Starting", "demo", "Attempt 1 starts."],
        ["FailedMount", "demo-a1-0", "volume is missing"],
    ]
    assert told[0][0].strip() == "1h01m ago"


def test_an_event_that_repeats_is_as_old_as_its_last_time(seen: Seen, llmtrain: Run) -> None:
    new_form = {"lastTimestamp": None, "eventTime": ago(7300), "series": {"count": 9, "lastObservedTime": ago(0)}}
    seen.events = [event("demo", "FailedMount", "again and again", 0, **new_form), event("demo", "Starting", "Attempt 1 starts.", 60)]
    (started, repeated) = lines_after(llmtrain("why", "demo").out, "events")
    assert "Attempt 1 starts." in started and "again and again" in repeated
    assert "h" not in repeated.split()[0]


def test_an_event_without_a_time_is_shown_with_a_dash(seen: Seen, llmtrain: Run) -> None:
    seen.events = [event("demo", "Odd", "no time", 0, lastTimestamp=None)]
    (line,) = lines_after(llmtrain("why", "demo").out, "events")
    assert line.split() == ["-", "Odd", "demo", "no", "time"]


def test_only_the_newest_events_are_shown_and_each_on_one_short_line(seen: Seen, llmtrain: Run) -> None:
    seen.events = [event("demo", "Failed", f"line {index}\n\n" + "x" * 1000, 100 - index) for index in range(20)]
    lines = lines_after(llmtrain("why", "demo").out, "events")
    assert [line.split("line ")[1].split()[0] for line in lines] == [str(index) for index in range(12, 20)]
    assert all(line.endswith("xxx...") and len(line) < 400 for line in lines)


def test_a_recorded_refusal_of_this_generation_is_the_answer(seen: Seen, llmtrain: Run) -> None:
    refusal = "spec.dataset[0].source is s3://data/text.jsonl: the administrator does not allow it."
    planned = {"type": "Planned", "status": "False", "reason": "Invalid", "message": refusal, "observedGeneration": 1}
    seen.job["status"]["conditions"] = [planned]
    assert refusal in llmtrain("why", "demo").out.splitlines()[0]
    seen.job["metadata"]["generation"] = 2
    assert refusal not in llmtrain("why", "demo").out.splitlines()[0], "it spoke of an earlier manifest"


@pytest.mark.parametrize("forbidden", [(), ("/workloads/",)], ids=["absent", "forbidden"])
def test_a_workload_that_is_not_there_or_may_not_be_read_is_no_error(seen: Seen, llmtrain: Run, forbidden: tuple[str, ...]) -> None:
    served = {"name": "kueue.x-k8s.io", "preferredVersion": {"groupVersion": "kueue.x-k8s.io/v1beta1"}}
    seen.api.objects["/apis"] = {"groups": [served]}
    seen.job["spec"] = {**SPEC, "scheduling": {"queue": "team-a"}}
    seen.forbidden = forbidden
    said = llmtrain("why", "demo")
    assert said.code == 0 and "team-a of kueue" in said.out


def test_pods_of_an_earlier_job_with_this_name_are_not_counted_as_its_own(seen: Seen, llmtrain: Run) -> None:
    seen.pod(0)["metadata"]["ownerReferences"][0]["uid"] = "uid-of-the-one-before"
    assert "no pods" in llmtrain("why", "demo").out


def test_an_agent_is_asked_through_the_api_server(seen: Seen, llmtrain: Run) -> None:
    running = {"name": "trainer", "state": {"running": {"startedAt": ago(60)}}}
    for index in (0, 1):
        pod = seen.pod(index, phase="Running", podIP="10.0.0.1", containerStatuses=[running])
        pod["spec"] = {"nodeName": "n0", "containers": [{"name": "trainer", "ports": [{"name": "http", "containerPort": 9400}]}]}
        pod["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    llmtrain("why", "demo")
    assert f"{PODS}/demo-a1-0:9400/proxy/status" in [request.path for request in seen.api.requests]
