"""The pod of one node.

It keeps to the restricted Pod Security Standard and has no token of the API server: training needs neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmtrain_operator.api.job import LLMTrainJob, Toleration
from llmtrain_operator.kube import names
from llmtrain_operator.kube.gangs.gang_objects import gang_metadata
from llmtrain_operator.kube.gangs.scheduler import GangMetadata
from llmtrain_operator.kube.render.affinity import affinity, spread
from llmtrain_operator.kube.render.config_map import SECRET
from llmtrain_operator.kube.render.volumes import CACHE, CONFIG, HOME, RUN_DIR, volumes
from llmtrain_operator.kube.render_settings import HTTP_PORT, HTTP_PORT_NAME, RENDEZVOUS_PORT, RenderSettings
from llmtrain_operator.life.from_objects import CONTAINER
from llmtrain_operator.life.observed import GangKind
from llmtrain_operator.plan.plan import Plan
from llmtrain_trainer.config import RENDEZVOUS_SECRET
from llmtrain_trainer.config.checkpoint import SAVED_BYTES

UPLOAD_BYTES_PER_SECOND = 100e6
"""Lowest expected upload rate of a node, in bytes per second."""

SHORTEST_SAVE, LONGEST_SAVE, MARGIN = 300, 3600, 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """Values that the pods of a gang share."""

    job: LLMTrainJob
    plan: Plan
    number: int
    gang: GangKind
    avoid: Sequence[str]
    settings: RenderSettings


def pod(attempt: Attempt, index: int) -> dict[str, Any]:
    """The pod with this index. render.py adds owner references."""
    job, number = attempt.job, attempt.number
    name = names.pod(job.metadata.name, number, index)
    of_gang = gang_metadata(job, number, index, attempt.gang, attempt.settings)
    own = {**names.object_labels(job.metadata.name), **names.pod_labels(job.metadata.name, number, index), **of_gang.labels}
    labels = {**job.spec.scheduling.labels, **own}
    metadata: dict[str, Any] = {"name": name, "labels": labels}
    if annotations := {**job.spec.scheduling.annotations, **of_gang.annotations}:
        metadata["annotations"] = annotations
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": _spec(attempt, index, name, of_gang)}


def save_seconds(plan: Plan) -> int:
    """Grace period: seconds for a node to save and upload its part of a checkpoint."""
    if plan.job.spec.checkpoint is None:
        return 30
    weights = plan.trainable or (plan.shape.parameters if plan.shape else None) or 0
    upload = weights * SAVED_BYTES / plan.mesh.nodes / UPLOAD_BYTES_PER_SECOND
    return int(min(LONGEST_SAVE, max(SHORTEST_SAVE, 2 * upload)))


def _spec(attempt: Attempt, index: int, name: str, of_gang: GangMetadata) -> dict[str, Any]:
    job, scheduling = attempt.job, attempt.job.spec.scheduling
    user = attempt.settings.user
    spec: dict[str, Any] = {
        "restartPolicy": "Never",  # the agent restarts ranks, the operator whole gangs
        "hostname": name,
        "subdomain": names.service(job.metadata.name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": save_seconds(attempt.plan) + MARGIN,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": user,
            "runAsGroup": user,
            "fsGroup": user,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(attempt, index)],
        "volumes": [volume.volume() for volume in volumes(job, names.gang(job.metadata.name, attempt.number))],
    }
    optional: dict[str, Any] = {
        "nodeSelector": dict(scheduling.node_selector),
        "tolerations": [_toleration(each) for each in scheduling.tolerations],
        "priorityClassName": scheduling.priority_class_name,
        "serviceAccountName": scheduling.service_account_name,
        "imagePullSecrets": [{"name": secret} for secret in scheduling.image_pull_secrets],
        "schedulerName": of_gang.scheduler,
        "runtimeClassName": scheduling.runtime_class_name,
        "affinity": affinity(job, attempt.number, attempt.avoid, attempt.gang),
        "topologySpreadConstraints": spread(job, attempt.number),
    }
    return spec | {name: value for name, value in optional.items() if value}


def _container(attempt: Attempt, index: int) -> dict[str, Any]:
    job, settings = attempt.job, attempt.settings
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": job.spec.scheduling.image or settings.image,
        "command": ["python", "-m", "llmtrain_trainer"],  # no shell: the agent is process 1 and gets the signals
        "args": _arguments(attempt, index),
        "env": _environment(job, settings, names.gang(job.metadata.name, attempt.number)),
        "ports": [
            {"name": HTTP_PORT_NAME, "containerPort": HTTP_PORT, "protocol": "TCP"},
            {"name": "rendezvous", "containerPort": RENDEZVOUS_PORT, "protocol": "TCP"},
        ],
        "resources": _resources(job),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",  # without a verdict, the last lines of the log are kept
        "volumeMounts": [volume.mount() for volume in volumes(job, names.gang(job.metadata.name, attempt.number))],
        **_probes(),
    }
    if settings.image_pull_policy:
        container["imagePullPolicy"] = settings.image_pull_policy
    if job.spec.checkpoint and job.spec.checkpoint.secret_name:
        container["envFrom"] = [{"secretRef": {"name": job.spec.checkpoint.secret_name}}]
    return container


def _arguments(attempt: Attempt, index: int) -> list[str]:
    """As llmtrain_trainer/__main__.py takes them."""
    meta = attempt.job.metadata
    leader = names.host(meta.name, meta.namespace, attempt.number, 0, attempt.settings.domain)
    told = {
        "--config": CONFIG,
        "--run-dir": RUN_DIR,
        "--cache": CACHE,
        "--node-rank": str(index),
        "--rendezvous": f"{leader}:{RENDEZVOUS_PORT}",
        "--host": "::",
        "--port": str(HTTP_PORT),
        "--grace": str(save_seconds(attempt.plan)),
    }
    return ["agent", *(word for option in told.items() for word in option), "--echo"]


def _environment(job: LLMTrainJob, settings: RenderSettings, config_map: str) -> list[dict[str, Any]]:
    plain = {
        "HOME": HOME,
        "USER": "llmtrain",  # libraries ask for the user's name, which the image may not define
        "PYTHONUNBUFFERED": "1",
        **settings.environment,
        **job.spec.scheduling.env,
    }
    node = {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
    secret = {"name": RENDEZVOUS_SECRET, "valueFrom": {"configMapKeyRef": {"name": config_map, "key": SECRET}}}
    return [node, secret, *({"name": name, "value": value} for name, value in plain.items())]


def _resources(job: LLMTrainJob) -> dict[str, Any]:
    """Resources of the container. Devices, pages and memory are limits too; CPU is only a request, unless the job sets cpuLimit."""
    wanted = job.spec.resources
    devices = {wanted.gpu_resource: str(wanted.gpus_per_node)} if wanted.gpus_per_node else {}
    devices |= {name: str(count) for name, count in sorted(wanted.rdma.items())}
    devices |= {f"hugepages-{page}": amount for page, amount in sorted(wanted.hugepages.items())}
    memory = {"memory": wanted.memory} if wanted.memory else {}
    cpu = {"cpu": wanted.cpu} if wanted.cpu else {}
    limit = {"cpu": wanted.cpu_limit} if wanted.cpu_limit else {}
    found = {"requests": {**cpu, **memory, **devices}, "limits": {**limit, **memory, **devices}}
    return {kind: amounts for kind, amounts in found.items() if amounts}


def _probes() -> dict[str, Any]:
    """Probes with long timeouts: a node that is busy saving or loading must not be killed for a late answer."""
    return {"startupProbe": _probe(5, 60), "readinessProbe": _probe(10, 3), "livenessProbe": _probe(30, 10)}


def _probe(period: int, failures: int) -> dict[str, Any]:
    get = {"path": "/healthz", "port": HTTP_PORT_NAME}
    return {"httpGet": get, "timeoutSeconds": 10, "periodSeconds": period, "failureThreshold": failures}


def _toleration(toleration: Toleration) -> dict[str, Any]:
    return toleration.model_dump(by_alias=True, exclude_none=True)
