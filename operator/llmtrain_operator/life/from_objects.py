"""Kubernetes objects, as dicts -> the values of observed.py. Total: whatever stands in an object, nothing here raises."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from llmtrain_operator.api.job import Spec, Status
from llmtrain_operator.life.observed import Agent, Job, Node, Pod, Warned
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
    meta = mapping_of(manifest, "metadata")
    try:
        spec = spec or parse_object(manifest).spec
    except ManifestError as error:
        refusal = sentences(error.problems)
    except Exception as error:  # one that cannot be read takes no other along
        refusal = cut(f"The manifest cannot be read ({type(error).__name__}): {error}")
    return Job(
        name=text_in(meta, "name") or "",
        namespace=text_in(meta, "namespace") or "default",
        uid=text_in(meta, "uid") or "",
        generation=_whole(meta, "generation") or 0,
        created=seconds_of(meta.get("creationTimestamp")),
        deleting=meta.get("deletionTimestamp") is not None,
        spec=spec,
        refusal=refusal,
        status=status_of(mapping_of(manifest, "status")),
    )


def status_of(written: Mapping[str, Any]) -> Status:
    """The status; invalid fields are left out, the others are kept."""
    try:
        return Status.model_validate(dict(written))
    except ValidationError as error:
        unsound = {problem["loc"][0] for problem in error.errors(include_url=False, include_context=False)}
        return Status.model_validate({name: value for name, value in written.items() if name not in unsound})


def pod_of(pod: object) -> Pod:
    """A Pod from its object of the API server. Missing or malformed fields count as absent."""
    meta, spec, status = mapping_of(pod, "metadata"), mapping_of(pod, "spec"), mapping_of(pod, "status")
    labels = mapping_of(meta, "labels")
    container = _container(status)
    state = mapping_of(container, "state")
    waiting, running, ended = (state.get(name) for name in ("waiting", "running", "terminated"))
    scheduled = condition_of(status, "PodScheduled")
    taken = next((found for kind in _TAKEN_AWAY if (found := condition_of(status, kind)).get("status") == "True"), {})
    return Pod(
        name=text_in(meta, "name") or "",
        uid=text_in(meta, "uid") or "",
        owner=_controller(meta),
        attempt=_number(labels.get(LABEL_ATTEMPT)),
        index=_number(labels.get(LABEL_INDEX)),
        phase=text_in(status, "phase") or "Pending",
        reason=text_in(status, "reason"),
        message=text_in(status, "message"),
        created=seconds_of(meta.get("creationTimestamp")),
        deleting=seconds_of(meta.get("deletionTimestamp")),
        grace=_whole(meta, "deletionGracePeriodSeconds"),
        node=text_in(spec, "nodeName"),
        placed=_placed(status, scheduled),
        gated=bool(_items(spec, "schedulingGates")) or text_in(scheduled, "reason") == "SchedulingGated",
        unschedulable=text_in(scheduled, "message") if text_in(scheduled, "reason") == "Unschedulable" else None,
        nominated=text_in(status, "nominatedNodeName") is not None,
        waiting=text_in(waiting, "reason"),
        waiting_message=text_in(waiting, "message"),
        started=_started(state),
        running=isinstance(running, Mapping) and not isinstance(ended, Mapping),
        beside=_beside(status),
        finished=seconds_of(mapping_of(state, "terminated").get("finishedAt")),
        exit_code=_whole(ended, "exitCode"),
        exit_reason=text_in(ended, "reason"),
        termination=text_in(ended, "message"),
        disruption=text_in(taken, "reason"),
        disruption_message=text_in(taken, "message"),
        disrupted=seconds_of(taken.get("lastTransitionTime")),
    )


def node_of(name: str, node: object | None) -> Node:
    """The node. `node`: the object, None if it does not exist."""
    if node is None:
        return Node(name=name, exists=False)
    ready = condition_of(mapping_of(node, "status"), "Ready")
    taints = [text_in(taint, "key") for taint in _items(mapping_of(node, "spec"), "taints")]
    return Node(
        name=name,
        not_ready_since=None if ready.get("status") in ("True", None) else seconds_of(ready.get("lastTransitionTime")) or 0.0,
        out_of_service=_OUT_OF_SERVICE in taints,
        unschedulable=mapping_of(node, "spec").get("unschedulable") is True,
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
    """The verdict in a termination message; None if it is invalid: it is untrusted, since pods may run foreign code."""
    try:
        verdict = Verdict.model_validate(json.loads(termination or ""), extra="ignore")
    except (ValueError, RecursionError):
        return None
    return verdict if _has_sound_numbers(verdict) else None


def warnings_of(events: Iterable[object]) -> dict[str, Warned]:
    """The newest warning of each pod."""
    newest: dict[str, Warned] = {}
    for event in events:
        about = mapping_of(event, "involvedObject")
        name = text_in(about, "name")
        if name is None or text_in(about, "kind") != "Pod" or text_in(event, "type") != "Warning":
            continue
        time = time_of_event(event)
        if name not in newest or (time or 0.0) >= (newest[name].time or 0.0):
            newest[name] = Warned(reason=text_in(event, "reason") or "", message=text_in(event, "message") or "", time=time)
    return newest


def time_of_event(event: object) -> float | None:
    """When it was seen last. An event that repeats says so in its series; its eventTime stays that of the first."""
    stamps = (
        mapping_of(event, "series").get("lastObservedTime"),
        *(mapping_of(event).get(at) for at in ("lastTimestamp", "eventTime")),
        mapping_of(event, "metadata").get("creationTimestamp"),
    )
    return next((found for stamp in stamps if (found := seconds_of(stamp)) is not None), None)


# ---- reading of untrusted values -----------------------------------------------------------------------------------------


def mapping_of(value: object, name: str | None = None) -> Mapping[str, Any]:
    """The value, or its field `name`; empty where that is no mapping."""
    found = value.get(name) if name is not None and isinstance(value, Mapping) else value if name is None else None
    return found if isinstance(found, Mapping) else {}


def _items(value: object, name: str) -> list[Any]:
    found = mapping_of(value).get(name)
    return found if isinstance(found, list) else []


def text_in(value: object, name: str) -> str | None:
    """The field `name` of a mapping; None where it is no text, or an empty one."""
    found = mapping_of(value).get(name)
    return found if isinstance(found, str) and found else None


def _whole(value: object, name: str) -> int | None:
    found = mapping_of(value).get(name)
    return found if type(found) is int else None


def _number(label: object) -> int:
    """The number in a label; 0 if there is none."""
    return int(label) if isinstance(label, str) and label.isascii() and label.isdigit() and len(label) <= 12 else 0


def condition_of(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """The condition of this type; empty where there is none."""
    return next((mapping_of(found) for found in _items(status, "conditions") if mapping_of(found).get("type") == kind), {})


def _started(state: Mapping[str, Any]) -> float | None:
    """When a container that runs, or ran, was started; None for 1970, which a runtime says of one that it could not start."""
    stamps = (mapping_of(state, kind).get("startedAt") for kind in ("running", "terminated"))
    return next((found for stamp in stamps if (found := seconds_of(stamp))), None)


def _container(status: Mapping[str, Any]) -> Mapping[str, Any]:
    """The status of the trainer's container; others may have been injected."""
    return next((found for each in _items(status, "containerStatuses") if (found := mapping_of(each)).get("name") == CONTAINER), {})


def _beside(status: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of other containers that run; those that the kubelet itself ends after ours stand elsewhere."""
    others = [mapping_of(each) for each in _items(status, "containerStatuses")]
    running = [text_in(each, "name") for each in others if isinstance(mapping_of(each, "state").get("running"), Mapping)]
    return tuple(name for name in running if name is not None and name != CONTAINER)


def _placed(status: Mapping[str, Any], scheduled: Mapping[str, Any]) -> float | None:
    """When the pod was scheduled, from the scheduler's condition or the kubelet."""
    since = seconds_of(scheduled.get("lastTransitionTime")) if scheduled.get("status") == "True" else None
    return since if since is not None else seconds_of(status.get("startTime"))


def _controller(meta: Mapping[str, Any]) -> str | None:
    owners = _items(meta, "ownerReferences")
    return next((text_in(owner, "uid") for owner in owners if mapping_of(owner).get("controller") is True), None)
