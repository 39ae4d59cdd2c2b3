"""Plan -> every Kubernetes object of an attempt, as dicts ready to be applied. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.kube import names
from llmtrain_operator.kube.gangs.gang_objects import pod_group
from llmtrain_operator.kube.render.config_map import config_map
from llmtrain_operator.kube.render.network_policy import network_policy
from llmtrain_operator.kube.render.pod import Attempt, pod
from llmtrain_operator.kube.render.service import service
from llmtrain_operator.kube.render_settings import RenderSettings
from llmtrain_operator.life.observed import GangKind
from llmtrain_operator.plan.plan import Plan
from llmtrain_operator.plan.trainer_config import trainer_config

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects:
    """The objects of one attempt. `shared` ones outlive it; `own` ones belong to it; both are created before the pods."""

    shared: tuple[Manifest, ...]
    """Service and NetworkPolicy of the job."""

    own: tuple[Manifest, ...]
    """ConfigMap, and PodGroup if there is one."""

    pods: tuple[Manifest, ...]
    """By index."""

    def __iter__(self) -> Iterator[Manifest]:
        """In the order of creation."""
        return iter((*self.shared, *self.own, *self.pods))


def render(
    job: LLMTrainJob,
    plan: Plan,
    number: int,
    settings: RenderSettings,
    *,
    uid: str | None,
    gang: GangKind,
    avoid: Sequence[str] = (),
    restarts_left: int | None = None,
    secret: str,
) -> Objects:
    """Attempt `number`. `uid` is that of the job object, None where it is not in a cluster yet; `avoid` are nodes that failed it.
    `secret`: that its nodes meet by, drawn for this attempt. `restarts_left` of the budget of restarts; None for all of it.

    Raises PlanError where the model's layers are not known.
    """
    name = job.metadata.name
    attempt = Attempt(job=job, plan=plan, number=number, gang=gang, avoid=tuple(avoid), settings=settings)
    group = pod_group(job, number, gang, settings)
    own = [config_map(trainer_config(job, plan, number, restarts_left), secret), *([group] if group else [])]
    return Objects(
        shared=tuple(_owned(each, job, uid) for each in (service(name), network_policy(name, settings))),
        own=tuple(_owned(each, job, uid) for each in own),
        pods=tuple(_owned(pod(attempt, index), job, uid) for index in range(plan.mesh.nodes)),
    )


def _owned(manifest: Manifest, job: LLMTrainJob, uid: str | None) -> Manifest:
    """The object with namespace, labels and the job as owner, so that it is garbage-collected with the job."""
    metadata = manifest["metadata"]
    labels = {**names.object_labels(job.metadata.name), **metadata.get("labels", {})}
    labels |= {names.LABEL_JOB_UID: uid} if uid is not None else {}
    placed = {**metadata, "namespace": job.metadata.namespace, "labels": labels}
    if uid is not None:
        owner = {"apiVersion": job.api_version, "kind": job.kind, "name": job.metadata.name, "uid": uid, "controller": True}
        placed["ownerReferences"] = [owner]
    return {**manifest, "metadata": placed}
