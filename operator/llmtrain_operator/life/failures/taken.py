"""Rules for pods that were evicted, preempted, deleted, refused, or lost with their nodes."""

from __future__ import annotations

import re

from llmtrain_operator.life.failures.failure import Evidence, Failure, clause, failed
from llmtrain_trainer.config.formats import span


def node_lost(evidence: Evidence) -> Failure | None:
    """The pod's node is gone, out of service, or has not been ready for long."""
    pod, node = evidence.pod, evidence.node
    if not evidence.lost or pod.stopped or node is None:
        return None
    if not node.exists:
        how = "is gone from the cluster"
    elif node.out_of_service:
        how = "is marked out of service"
    else:
        how = f"has not been ready for {span(evidence.now - (node.not_ready_since or evidence.now))}"
    since = node.not_ready_since if node.not_ready_since is not None else evidence.now
    return failed(evidence, "NodeLost", f"Node {node.name} {how}; pod {pod.name} ran on it.", time=since)


def evicted(evidence: Evidence) -> Failure | None:
    """The kubelet evicted the pod: the node ran short of a resource, or the pod exceeded its own limit, as it would on every node."""
    if evidence.pod.reason != "Evicted":
        return None
    said = clause(evidence.pod.message, "no reason is given")
    message = f"{evidence.where} was evicted by the kubelet: {said}."
    if _OWN_LIMIT.search(said) and "low on resource" not in said:
        return failed(evidence, "LimitExceeded", message)
    return failed(evidence, "Evicted", message)


_OWN_LIMIT = re.compile(r"exceed", re.IGNORECASE)
"""The kubelet's message for a volume, a container or a pod above its limit, such as `Usage of EmptyDir volume "x" exceeds the limit`."""


def disrupted(evidence: Evidence) -> Failure | None:
    """The pod was disrupted by a scheduler, a queue, a drain, or a node that shuts down."""
    pod = evidence.pod
    if pod.disruption is None:
        return None
    reason, verb = _DISRUPTIONS.get(pod.disruption, ("Preempted", "was disrupted"))
    message = f"{evidence.where} {verb}: {clause(pod.disruption_message, pod.disruption)}."
    return failed(evidence, reason, message)


_DISRUPTIONS = {
    "PreemptionByScheduler": ("Preempted", "was preempted by a pod of higher priority"),
    "EvictionByEvictionAPI": ("Drained", "was evicted through the API, as by a drain"),
    "DeletionByTaintManager": ("Drained", "does not tolerate a taint of its node"),
    "DeletionByPodGC": ("NodeLost", "was on a node that is gone"),
    "TerminationByKubelet": ("Drained", "was ended by its kubelet, as when a node shuts down"),
}


def shut_down(evidence: Evidence) -> Failure | None:
    """The kubelet ended the pod and says so in the pod's reason. Older kubelets set no condition."""
    pod = evidence.pod
    if (reason := SHUT_DOWN.get(pod.reason or "")) is None or pod.started is None:
        return None
    message = f"{evidence.where} was ended by its kubelet: {clause(pod.message, pod.reason or '')}."
    return failed(evidence, reason, message)


SHUT_DOWN = {"Terminated": "Drained", "Shutdown": "Drained", "NodeShutdown": "Drained", "Preempting": "Preempted"}


def refused_by_node(evidence: Evidence) -> Failure | None:
    """The kubelet did not admit the pod: a device is broken or assigned twice, or the node is too small after all."""
    pod = evidence.pod
    if pod.phase != "Failed" or pod.exit_code is not None or pod.started is not None or pod.reason is None:
        return None
    return failed(evidence, "RefusedByNode", f"{evidence.where} was refused: {pod.reason}: {clause(pod.message, '')}.")


def deleted(evidence: Evidence) -> Failure | None:
    """A person, or a controller other than llmtrain, deleted the pod."""
    if evidence.pod.deleting is None:
        return None
    return failed(evidence, "PodDeleted", f"{evidence.where} was deleted.")
