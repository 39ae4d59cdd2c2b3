"""Where and when the pods are placed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from llmtrain_operator.api.job.kubernetes import (
    AnnotationValue,
    Image,
    LabelKey,
    LabelValue,
    QueueName,
    VariableName,
    VariableValue,
)
from llmtrain_trainer.config import Name, Strict


class Topology(Strict):
    """Keep the gang close: a node label whose value the pods share."""

    required: LabelKey | None = None
    """All pods in one domain of this label, or the gang waits."""

    preferred: LabelKey | None = None
    """One domain of this label if there is room."""


class Toleration(Strict):
    """A taint that the pods accept, as in a pod."""

    key: LabelKey | None = None
    """Taint key; left out it matches every key, with operator Exists."""

    operator: Literal["Exists", "Equal"] = "Equal"
    """How key and value are compared."""

    value: LabelValue | None = None
    """Taint value, for operator Equal."""

    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Taint effect; left out it matches all effects."""

    toleration_seconds: Annotated[int, Field(ge=0, le=1_000_000_000)] | None = None
    """How long the pods stay once such a taint is there, with effect NoExecute. Left out: for ever."""


class Scheduling(Strict):
    """Queue, gang, placement."""

    queue: QueueName | None = None
    """Queue of Kueue or Volcano; without one the job is not queued."""

    gang: Literal["auto", "none", "kueue", "volcano", "coscheduling"] = "auto"
    """Who admits all pods or none. auto: whatever the cluster has, else the operator's own order."""

    topology: Topology | None = None
    """How close together the pods must be."""

    priority_class_name: Name | None = None
    """PriorityClass of the pods."""

    node_selector: Annotated[dict[LabelKey, LabelValue], Field(max_length=64)] = {}
    """Labels that a node must have."""

    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=64)] = ()
    """Taints the pods accept."""

    service_account_name: Name | None = None
    """ServiceAccount of the pods, for cloud identities. Its token is not mounted."""

    runtime_class_name: Name | None = None
    """RuntimeClass of the pods, such as nvidia."""

    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=32)] = {}
    """Labels of the pods for what the cluster does by them, such as azure.workload.identity/use. Those of Kubernetes and of queues are not
    a job's."""

    annotations: Annotated[dict[LabelKey, AnnotationValue], Field(max_length=32)] = {}
    """Annotations of the pods for what the cluster does by them, such as k8s.v1.cni.cncf.io/networks for a second network. Those of
    Kubernetes and of queues are not a job's."""

    env: Annotated[dict[VariableName, VariableValue], Field(max_length=64)] = {}
    """Variables of the trainer that name the network and tune libraries: NCCL_*, GLOO_*, UCX_*, FI_* and the like. The administrator sets
    others for all jobs, and credentials come from checkpoint.secretName."""

    image: Image | None = None
    """Trainer image. Default: the operator's."""

    image_pull_secrets: Annotated[tuple[Name, ...], Field(max_length=16)] = ()
    """Secrets for the image registry."""
