"""What makes a gang of pods for whoever admits gangs: marks on the pods, and a PodGroup where the scheduler wants one."""

from __future__ import annotations

from typing import Any

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.kube import names
from llmtrain_operator.kube.gangs.registry import SCHEDULERS
from llmtrain_operator.kube.gangs.scheduler import Marks
from llmtrain_operator.kube.render_settings import RenderSettings
from llmtrain_operator.life.observed import GangKind


def marks(job: LLMTrainJob, attempt: int, index: int, gang: GangKind, settings: RenderSettings) -> Marks:
    """Of the pod with this index."""
    scheduler = SCHEDULERS.get(gang)
    return scheduler.marks(job, names.gang(job.metadata.name, attempt), index, settings) if scheduler else Marks()


def pod_group(job: LLMTrainJob, attempt: int, gang: GangKind, settings: RenderSettings) -> dict[str, Any] | None:
    """None where pods alone make the gang."""
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
    """apiVersion of its PodGroups; None where pods alone make the gang."""
    scheduler = SCHEDULERS.get(gang)
    return scheduler.group_version(settings) if scheduler else None
