"""What a gang scheduler needs: metadata on each pod, and a PodGroup if the scheduler admits by PodGroups."""

from __future__ import annotations

from typing import Any

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.kube import names
from llmtrain_operator.kube.gangs.registry import SCHEDULERS
from llmtrain_operator.kube.gangs.scheduler import GangMetadata
from llmtrain_operator.kube.render_settings import RenderSettings
from llmtrain_operator.life.observed import GangKind


def gang_metadata(job: LLMTrainJob, attempt: int, index: int, gang: GangKind, settings: RenderSettings) -> GangMetadata:
    """Metadata of the pod with this index; empty without a gang scheduler."""
    scheduler = SCHEDULERS.get(gang)
    return scheduler.gang_metadata(job, names.gang(job.metadata.name, attempt), index, settings) if scheduler else GangMetadata()


def pod_group(job: LLMTrainJob, attempt: int, gang: GangKind, settings: RenderSettings) -> dict[str, Any] | None:
    """The PodGroup of an attempt; None if the scheduler groups pods by their metadata alone."""
    version = group_version(gang, settings)
    if version is None:
        return None
    labels = dict(names.attempt_labels(job.metadata.name, attempt))
    return {
        "apiVersion": version,
        "kind": "PodGroup",
        "metadata": {"name": names.gang(job.metadata.name, attempt), "labels": labels},
        "spec": SCHEDULERS[gang].render(job),
    }


def group_version(gang: GangKind, settings: RenderSettings) -> str | None:
    """apiVersion of the scheduler's PodGroups; None if it groups pods by their metadata alone."""
    scheduler = SCHEDULERS.get(gang)
    return scheduler.group_version(settings) if scheduler else None
