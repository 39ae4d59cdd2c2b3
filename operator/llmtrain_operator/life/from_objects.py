"""Kubernetes objects, as dicts -> the values of observed.py. Total: whatever stands in an object, nothing here raises."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from llmtrain_operator.api.job import Spec, Status
from llmtrain_operator.life.observed import Admission, Agent, Job, Node, Pod, Warned
from llmtrain_operator.life.times import seconds_of
from llmtrain_operator.manifest.parse import ManifestError, parse_object
from llmtrain_operator.manifest.problem import cut, sentences
from llmtrain_trainer.config import NodeStatus, Verdict

LABEL_JOB, LABEL_ATTEMPT, LABEL_INDEX = "llmtrain.io/job", "llmtrain.io/attempt", "llmtrain.io/index"
CONTAINER = "trainer"
LARGEST_COUNT = 10**18
_OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
_TAKEN_AWAY = ("DisruptionTarget", "TerminationTarget")


def job_of(manifest: object, refusal: str | None = None, spec: Spec | None = None) -> Job:
    """`refusal` is what the plan said, where the manifest itself is sound; `spec` what was read of this generation before."""
    meta = _map(manifest, "metadata")
    try:
        spec = spec or parse_object(manifest).spec
    except ManifestError as error:
        refusal = sentences(error.problems)
    except Exception as error:  # one that cannot be read takes no other along
        refusal = cut(f"The manifest cannot be read ({type(error).__name__}): {error}")
    return Job(
        name=_text(meta, "name") or "",
        namespace=_text(meta, "namespace") or "default",
        uid=_text(meta, "uid") or "",
        generation=_whole(meta, "generation") or 0,
        created=seconds_of(meta.get("creationTimestamp")),
        deleting=meta.get("deletionTimestamp") is not None,
        spec=spec,
        refusal=refusal,
        status=status_of(_map(manifest, "status")),
    )


def status_of(written: Mapping[str, Any]) -> Status:
    """The status; a field that is not ours to read any more is left out, and the others stay."""
    try:
        return Status.model_validate(dict(written))
    except ValidationError as error:
        unsound = {problem["loc"][0] for problem in error.errors(include_url=False, include_context=False)}
        return Status.model_validate({name: value for name, value in written.items() if name not in unsound})


def pod_of(pod: object) -> Pod:
    meta, spec, status = _map(pod, "metadata"), _map(pod, "spec"), _map(pod, "status")
    labels = _map(meta, "labels")
    container = _container(status)
    state = _map(container, "state")
    waiting, running, ended = (state.get(name) for name in ("waiting", "running", "terminated"))
    scheduled = _condition(status, "PodScheduled")
    taken = next((found for kind in _TAKEN_AWAY if (found := _condition(status, kind)).get("status") == "True"), {})
    return Pod(
        name=_text(meta, "name") or "",
        uid=_text(meta, "uid") or "",
        owner=_controller(meta),
        attempt=_number(labels.get(LABEL_ATTEMPT)),
        index=_number(labels.get(LABEL_INDEX)),
        phase=_text(status, "phase") or "Pending",
        reason=_text(status, "reason"),
        message=_text(status, "message"),
        created=seconds_of(meta.get("creationTimestamp")),
        deleting=seconds_of(meta.get("deletionTimestamp")),
        grace=_whole(meta, "deletionGracePeriodSeconds"),
        node=_text(spec, "nodeName"),
        placed=_placed(status, scheduled),
        gated=bool(_items(spec, "schedulingGates")) or _text(scheduled, "reason") == "SchedulingGated",
        unschedulable=_text(scheduled, "message") if _text(scheduled, "reason") == "Unschedulable" else None,
        nominated=_text(status, "nominatedNodeName") is not None,
        waiting=_text(waiting, "reason"),
        waiting_message=_text(waiting, "message"),
        started=seconds_of(_map(state, "running").get("startedAt")) or seconds_of(_map(state, "terminated").get("startedAt")) or None,
        running=isinstance(running, Mapping) and not isinstance(ended, Mapping),
        beside=_beside(status),
        finished=seconds_of(_map(state, "terminated").get("finishedAt")),
        exit_code=_whole(ended, "exitCode"),
        exit_reason=_text(ended, "reason"),
        termination=_text(ended, "message"),
        disruption=_text(taken, "reason"),
        disruption_message=_text(taken, "message"),
        disrupted=seconds_of(taken.get("lastTransitionTime")),
    )


def node_of(name: str, node: object | None) -> Node:
    """`node` is None where the API server knows no such node."""
    if node is None:
        return Node(name=name, exists=False)
    ready = _condition(_map(node, "status"), "Ready")
    taints = [_text(taint, "key") for taint in _items(_map(node, "spec"), "taints")]
    return Node(
        name=name,
        not_ready_since=None if ready.get("status") in ("True", None) else seconds_of(ready.get("lastTransitionTime")) or 0.0,
        out_of_service=_OUT_OF_SERVICE in taints,
        unschedulable=_map(node, "spec").get("unschedulable") is True,
    )


def agent_of(answer: object, time: float) -> Agent | None:
    """The answer of GET /status, as JSON already read. An image newer than this operator may say more. None for what is no sound answer: it
    comes from a pod that runs code of others."""
    try:
        status = NodeStatus.model_validate(answer, extra="ignore")
    except (ValidationError, RecursionError):
        return None
    return Agent(status=status, time=time) if _has_sound_numbers(status) else None


def _has_sound_numbers(read: BaseModel) -> bool:
    """Whether every whole number is one that can be counted with: time, steps and bytes stay far below. Of what was read, not of the
    JSON: there a number may also be a text or end in `.0`."""
    waiting: list[object] = [read.model_dump(mode="json")]
    while waiting:
        found = waiting.pop()
        if isinstance(found, (dict, list)):
            waiting += found.values() if isinstance(found, dict) else found
        elif isinstance(found, int) and abs(found) > LARGEST_COUNT:
            return False
    return True


def verdict_of(termination: str | None) -> Verdict | None:
    """A termination message that is a sound verdict: it too comes from a pod that runs code of others."""
    try:
        verdict = Verdict.model_validate(json.loads(termination or ""), extra="ignore")
    except (ValueError, RecursionError):
        return None
    return verdict if _has_sound_numbers(verdict) else None


def workload_of(workload: object) -> Admission:
    """Kueue's Workload."""
    status = _map(workload, "status")
    admitted, evicted, reserved = (_condition(status, kind) for kind in ("Admitted", "Evicted", "QuotaReserved"))
    said = evicted if evicted.get("status") == "True" else admitted if admitted.get("message") else reserved
    return Admission(
        admitted=admitted.get("status") == "True",
        since=seconds_of(admitted.get("lastTransitionTime")),
        evicted=evicted.get("status") == "True",
        message=_text(said, "message") or "",
    )


def pod_group_of(group: object) -> Admission:
    """PodGroup of Volcano or of scheduler-plugins."""
    status = _map(group, "status")
    phase = _text(status, "phase") or "Pending"
    waits = _condition(status, "Unschedulable")
    admitted = phase in ("Running", "Scheduled", "Scheduling", "Completed", "Finished", "Inqueue")
    return Admission(admitted=admitted, message=_text(waits, "message") or "" if waits.get("status") == "True" else "")


def warnings_of(events: Iterable[object]) -> dict[str, Warned]:
    """The newest warning of each pod."""
    newest: dict[str, Warned] = {}
    for event in events:
        about = _map(event, "involvedObject")
        name = _text(about, "name")
        if name is None or _text(about, "kind") != "Pod" or _text(event, "type") != "Warning":
            continue
        meta = _map(event, "metadata")
        stamps = (_map(event, "series").get("lastObservedTime"), *(_map(event).get(at) for at in ("lastTimestamp", "eventTime")))
        time = next((found for stamp in (*stamps, meta.get("creationTimestamp")) if (found := seconds_of(stamp)) is not None), None)
        if name not in newest or (time or 0.0) >= (newest[name].time or 0.0):
            newest[name] = Warned(reason=_text(event, "reason") or "", message=_text(event, "message") or "", time=time)
    return newest


# ---- reading of what may be anything -------------------------------------------------------------------------------------


def _map(value: object, name: str | None = None) -> Mapping[str, Any]:
    found = value.get(name) if name is not None and isinstance(value, Mapping) else value if name is None else None
    return found if isinstance(found, Mapping) else {}


def _items(value: object, name: str) -> list[Any]:
    found = _map(value).get(name)
    return found if isinstance(found, list) else []


def _text(value: object, name: str) -> str | None:
    found = _map(value).get(name)
    return found if isinstance(found, str) and found else None


def _whole(value: object, name: str) -> int | None:
    found = _map(value).get(name)
    return found if type(found) is int else None


def _number(label: object) -> int:
    """The number in a label; 0 where there is none."""
    return int(label) if isinstance(label, str) and label.isascii() and label.isdigit() and len(label) <= 12 else 0


def _condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    return next((_map(found) for found in _items(status, "conditions") if _map(found).get("type") == kind), {})


def _container(status: Mapping[str, Any]) -> Mapping[str, Any]:
    """Ours among those that others may have put beside it."""
    return next((found for each in _items(status, "containerStatuses") if (found := _map(each)).get("name") == CONTAINER), {})


def _beside(status: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of other containers that run; those that the kubelet itself ends after ours stand elsewhere."""
    others = [_map(each) for each in _items(status, "containerStatuses")]
    running = [_text(each, "name") for each in others if isinstance(_map(each, "state").get("running"), Mapping)]
    return tuple(name for name in running if name is not None and name != CONTAINER)


def _placed(status: Mapping[str, Any], scheduled: Mapping[str, Any]) -> float | None:
    """When it was given its node: as the scheduler says, or the kubelet."""
    since = seconds_of(scheduled.get("lastTransitionTime")) if scheduled.get("status") == "True" else None
    return since if since is not None else seconds_of(status.get("startTime"))


def _controller(meta: Mapping[str, Any]) -> str | None:
    owners = _items(meta, "ownerReferences")
    return next((_text(owner, "uid") for owner in owners if _map(owner).get("controller") is True), None)
