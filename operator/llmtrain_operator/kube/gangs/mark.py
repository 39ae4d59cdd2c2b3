"""What makes a gang of pods for whoever admits gangs: labels and annotations for Kueue, a PodGroup for Volcano or scheduler-plugins.
One group an attempt: a group that was admitted once is not admitted again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.kube import names
from llmtrain_operator.kube.cluster import Cluster
from llmtrain_operator.life.observed import GangKind

VOLCANO, COSCHEDULING = "scheduling.volcano.sh", "scheduling.x-k8s.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """What a pod carries because of its gang."""

    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    scheduler: str | None = None


def marks(job: LLMTrainJob, attempt: int, index: int, gang: GangKind, cluster: Cluster) -> Marks:
    """Of the pod with this index."""
    group = names.gang(job.metadata.name, attempt)
    match gang:
        case "kueue":
            return _kueue(job, group, index)
        case "volcano":
            return Marks(annotations={"scheduling.k8s.io/group-name": group}, scheduler="volcano")
        case "coscheduling":
            return Marks(labels={"scheduling.x-k8s.io/pod-group": group}, scheduler=cluster.coscheduling_scheduler)
        case _:
            return Marks()


def pod_group(job: LLMTrainJob, attempt: int, gang: GangKind, cluster: Cluster) -> dict[str, Any] | None:
    """None where pods alone make the gang."""
    spec: dict[str, Any] = {"minMember": job.spec.resources.nodes}
    scheduling = job.spec.scheduling
    version = group_version(gang, cluster)
    if version is None:
        return None
    if gang == "volcano":
        spec |= {"queue": scheduling.queue} if scheduling.queue else {}
        spec |= {"priorityClassName": scheduling.priority_class_name} if scheduling.priority_class_name else {}
    labels = dict(names.attempt_labels(job.metadata.name, attempt))
    return {
        "apiVersion": version,
        "kind": "PodGroup",
        "metadata": {"name": names.gang(job.metadata.name, attempt), "labels": labels},
        "spec": spec,
    }


def group_version(gang: GangKind, cluster: Cluster) -> str | None:
    """apiVersion of its PodGroups; None where pods alone make the gang."""
    match gang:
        case "volcano":
            return cluster.pod_group_versions.get(VOLCANO, f"{VOLCANO}/v1beta1")
        case "coscheduling":
            return cluster.pod_group_versions.get(COSCHEDULING, f"{COSCHEDULING}/v1alpha1")
        case _:
            return None


def _kueue(job: LLMTrainJob, group: str, index: int) -> Marks:
    """A group of plain pods. No pod of it is ever made again, so one that failed ends the group and gives its quota back."""
    labels = {"kueue.x-k8s.io/pod-group-name": group, "kueue.x-k8s.io/pod-group-pod-index": str(index)}
    if job.spec.scheduling.queue:
        labels["kueue.x-k8s.io/queue-name"] = job.spec.scheduling.queue
    annotations = {
        "kueue.x-k8s.io/pod-group-total-count": str(job.spec.resources.nodes),
        "kueue.x-k8s.io/retriable-in-group": "false",
    }
    if topology := job.spec.scheduling.topology:
        for name, level in (("required", topology.required), ("preferred", topology.preferred)):
            annotations |= {f"kueue.x-k8s.io/podset-{name}-topology": level} if level else {}
    return Marks(labels=labels, annotations=annotations)
