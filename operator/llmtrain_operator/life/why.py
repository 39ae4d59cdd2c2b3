"""Why a gang is not training yet, in one sentence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

from llmtrain_operator.api.job import Phase
from llmtrain_operator.life.attempt import AttemptView
from llmtrain_operator.life.observed import Pod
from llmtrain_trainer.config.formats import span

State = tuple[Phase, str, str]
"""Phase, reason, message."""

ORDINARY = frozenset({"CreatingPods", "Scheduling", "CreatingContainers", "AgentNotHeard", "Preparing", "Rendezvous"})
"""Reasons that every start passes through. A change between them alone does not cause a status write."""

LONG_UNHEARD = 600.0
"""Seconds after which a silent agent is mentioned: something blocks the operator from reaching it."""

_MOUNTS = ("FailedMount", "FailedAttachVolume", "FailedMapVolume")
_STARTING = {
    "preparing": ("Preparing", "The pods are running and prepare model and data"),
    "starting": ("Rendezvous", "The pods are running; their ranks connect and load the model"),
}


def not_training(gang: AttemptView) -> State | None:
    """The first hindrance; None if the gang trains or is about to report that it does."""
    return next((state for hindrance in HINDRANCES if (state := hindrance(gang))), None)


def _queued(gang: AttemptView) -> State | None:
    """The queue has not admitted the gang."""
    admission, kind = gang.observed.admission, gang.observed.gang
    gated = any(pod.gated for pod in gang.pods.values())
    if gang.scheduled == gang.size or (not gated and (admission is None or admission.admitted)):
        return None
    queue = gang.job.spec.scheduling.queue if gang.job.spec else None
    said = _clause(admission.message) if admission else ""
    where = f"Waiting in queue {queue}" if queue else f"Waiting for admission by {kind}"
    return "Queued", "Queued", f"{where}: {said}." if said else f"{where}."


def _no_node(gang: AttemptView) -> State | None:
    """The scheduler finds no node for some pods."""
    waiting = [pod for pod in gang.pods.values() if pod.node is None]
    if not waiting:
        return None
    said = [pod for pod in waiting if pod.unschedulable]
    if not said:
        return "Starting", "Scheduling", _sentence(f"{_some(waiting, gang)} being scheduled.")
    reason, clause = _no_place(_most_common([pod.unschedulable or "" for pod in said]))
    return "Starting", reason, _sentence(f"{_some(said, gang)} waiting for a node: {clause}.")


def _no_place(message: str) -> tuple[str, str]:
    """Reason and clause from the scheduler's message; a missing volume claim is put in plain words."""
    if missing := re.search(r'persistentvolumeclaim "([^"]+)" not found', message):
        return "VolumeMissing", f"the volume claim {missing[1]} does not exist"
    if "unbound immediate PersistentVolumeClaims" in message:
        return "VolumeUnbound", "a volume claim has no volume yet"
    return "Unschedulable", _clause(re.split(r"\s*(?:no new claims to deallocate, )?preemption: ", message)[0])


def _no_volume(gang: AttemptView) -> State | None:
    warned = [(pod, gang.observed.warnings[pod.name]) for pod in _not_started(gang) if pod.name in gang.observed.warnings]
    stuck = [(pod, warning) for pod, warning in warned if warning.reason in _MOUNTS]
    if not stuck:
        return None
    pod, warning = stuck[0]
    return "Starting", "VolumeNotMounted", f"A volume of pod {pod.name} cannot be mounted: {_clause(warning.message)}."


def _no_image(gang: AttemptView) -> State | None:
    pulling = [pod for pod in _not_started(gang) if "Image" in (pod.waiting or "") or pod.waiting == "RegistryUnavailable"]
    if not pulling:
        return None
    said = _clause(_most_common([pod.waiting_message or pod.waiting or "" for pod in pulling]))
    return "Starting", "ImagePullFailed", f"The image of {_count(pulling, gang)} cannot be pulled: {said}."


def _no_container(gang: AttemptView) -> State | None:
    """Usually a secret or a config map does not exist."""
    stuck = [
        pod for pod in _not_started(gang) if pod.waiting in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
    ]
    if not stuck:
        return None
    message = _most_common([pod.waiting_message or pod.waiting or "" for pod in stuck])
    if missing := re.search(r'secret "([^"]+)" not found', message):
        return (
            "Starting",
            "SecretMissing",
            f"The secret {missing[1]} does not exist in namespace {gang.job.namespace}; create it and the job continues.",
        )
    return "Starting", "ContainerNotCreated", f"The container of {_count(stuck, gang)} cannot be created: {_clause(message)}."


def _not_yet(gang: AttemptView) -> State | None:
    """The kubelet is creating the containers."""
    left = _not_started(gang)
    if not left:
        return None
    return "Starting", "CreatingContainers", f"The containers of {_count(left, gang)} are being created, which includes pulling the image."


def _agents(gang: AttemptView) -> State | None:
    """The pods run, and their agents report progress. While no agent answers, the last known state holds."""
    speaker, status = gang.speaker, gang.job.status
    if speaker is None:
        if status.phase == "Running" and status.attempt == gang.number:
            return None
        return "Starting", "AgentNotHeard", f"The pods are running, but {unheard(gang)}."
    for index in gang.pods:
        agent = gang.agent(index) if gang.heard(index) else None
        if agent is not None and agent.status.phase in _STARTING:
            reason, sentence = _STARTING[agent.status.phase]
            said = _clause(agent.status.message)
            return "Starting", reason, f"{sentence}: {said}." if said else f"{sentence}."
    if speaker.status.phase == "restarting":
        said = _clause(speaker.status.message)
        return "Restarting", "RestartInPlace", f"The ranks restart in their pods{f': {said}' if said else ''}."
    return None


def unheard(gang: AttemptView) -> str:
    """A clause on the agent of node 0, which does not answer."""
    now, leader = gang.observed.now, gang.leader
    started = [pod.started for pod in gang.pods.values() if pod.started is not None]
    since = leader.time if leader else max(started, default=now)
    how_long = f"for {span(now - since)}" if leader or now - since > LONG_UNHEARD else "yet"
    judged = gang.job.spec is not None and gang.job.spec.startup_deadline_seconds is not None
    unknown = "; it is not known whether it trains" if now - since > LONG_UNHEARD else ""
    unknown += ", so startupDeadlineSeconds is not enforced" if unknown and judged else ""
    return f"the agent of node 0 has not answered {how_long}{unknown}"


HINDRANCES: tuple[Callable[[AttemptView], State | None], ...] = (_queued, _no_node, _no_volume, _no_image, _no_container, _not_yet, _agents)


def not_created(gang: AttemptView) -> tuple[str, str] | None:
    """Why the API server refuses the gang's pods, as reason and sentence; None if it does not."""
    refused = gang.observed.not_created
    if refused is None:
        return None
    if refused.taken:
        return "NameTaken", refused.message
    clause = _clause(re.sub(r'^(Forbidden: |Invalid: )?pods "[^"]+" is forbidden: ', "", refused.message))
    namespace = gang.job.namespace
    if quota := re.match(r"exceeded quota: ([^,]+), requested: (.+), used: (.+), limited: (.+)$", clause):
        name, requested, used, limited = quota.groups()
        short = f"a pod requests {requested}, {used} is used and {limited} is the limit"
        return "QuotaExceeded", f"Quota {name} of namespace {namespace} has no room for the pods: {short}."
    if missing := re.match(r"no PriorityClass with name (\S+) was found", clause):
        return "PriorityClassMissing", f"The priority class {missing[1]} does not exist in this cluster."
    if missing := re.search(r'serviceaccount "([^"]+)" not found', clause):
        return "ServiceAccountMissing", f"The service account {missing[1]} does not exist in namespace {namespace}."
    if clause.endswith("because it is being terminated"):
        return "NamespaceTerminating", f"Namespace {namespace} is being deleted, and no pod can be created in it."
    if clause.startswith("violates PodSecurity"):
        return "PodSecurity", f"Namespace {namespace} does not admit the pods: {clause}."
    return "PodsRefused", f"The API server refuses the pods: {clause}." if refused.final else f"The pods cannot be created: {clause}."


def still_ending(gang: AttemptView) -> str:
    """One sentence on the pods that a new attempt waits for."""
    left = gang.may_run_now
    late = [pod for pod in left if pod.deleting is not None and gang.observed.now - pod.deleting > 60]
    if late:
        first = min(late, key=lambda pod: pod.deleting or 0.0)
        overdue = span(gang.observed.now - (first.deleting or 0.0))
        return f"Pod {first.name} on {first.node} should have ended {overdue} ago; no new attempt starts before it has."
    return f"Waiting for the pods to end: {some_names(left)}."


def some_names(pods: Sequence[Pod]) -> str:
    """The first three by name."""
    return ", ".join(pod.name for pod in pods[:3]) + (f" and {len(pods) - 3} more" if len(pods) > 3 else "")


def _not_started(gang: AttemptView) -> list[Pod]:
    return [pod for pod in gang.pods.values() if pod.node is not None and pod.started is None and not pod.stopped]


def _some(pods: Sequence[Pod], gang: AttemptView) -> str:
    return f"{_count(pods, gang)} {'is' if len(pods) == 1 else 'are'}"


def _count(pods: Sequence[Pod], gang: AttemptView) -> str:
    if gang.size == 1 or len(pods) == 1:
        return f"pod {pods[0].name}" if gang.size > 1 else "the pod"
    return f"all {gang.size} pods" if len(pods) == gang.size else f"{len(pods)} of {gang.size} pods"


def _most_common(texts: Sequence[str]) -> str:
    return Counter(texts).most_common(1)[0][0]


def _clause(text: str) -> str:
    return " ".join(text.split()).rstrip(".")[:1000]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
