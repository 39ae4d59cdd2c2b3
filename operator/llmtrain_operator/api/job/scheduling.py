"""Where and when the pods are placed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from llmtrain_operator.api.gang_schedulers import GangScheduler
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
    """Keep the pods of a gang close together: a node label whose value they share."""

    required: LabelKey | None = None
    """Node label. All pods run in one domain of it; the gang waits until one has room."""

    preferred: LabelKey | None = None
    """Node label. All pods run in one domain of it if one has room."""


class Toleration(Strict):
    """A taint that the pods tolerate, as in a pod's spec."""

    key: LabelKey | None = None
    """Taint key. Without it, and with operator Exists, every key matches."""

    operator: Literal["Exists", "Equal"] = "Equal"
    """How key and value are compared."""

    value: LabelValue | None = None
    """Taint value, for operator Equal."""

    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Taint effect. Default: all effects match."""

    toleration_seconds: Annotated[int, Field(ge=0, le=1_000_000_000)] | None = None
    """How long the pods stay after such a taint was added, with effect NoExecute. Default: for ever."""


class Scheduling(Strict):
    """Queue, gang, placement."""

    queue: QueueName | None = None
    """Queue of Kueue or Volcano. Without it the job is not queued."""

    gang: Literal["auto", "none", GangScheduler] = "auto"
    """What admits all pods of a gang or none. auto: the gang scheduler that the cluster has, else the operator's own order."""

    topology: Topology | None = None
    """How close together the pods must be."""

    priority_class_name: Name | None = None
    """PriorityClass of the pods."""

    node_selector: Annotated[dict[LabelKey, LabelValue], Field(max_length=64)] = {}
    """Labels that a node must have."""

    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=64)] = ()
    """Taints that the pods tolerate."""

    service_account_name: Name | None = None
    """ServiceAccount of the pods, for cloud identities. Its token is not mounted."""

    runtime_class_name: Name | None = None
    """RuntimeClass of the pods, such as nvidia."""

    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=32)] = {}
    """Labels of the pods that other parts of the cluster react to, such as azure.workload.identity/use. A job cannot set labels of
    Kubernetes or of queues."""

    annotations: Annotated[dict[LabelKey, AnnotationValue], Field(max_length=32)] = {}
    """Annotations of the pods that other parts of the cluster react to, such as k8s.v1.cni.cncf.io/networks for a second network. A job
    cannot set annotations of Kubernetes or of queues."""

    env: Annotated[dict[VariableName, VariableValue], Field(max_length=64)] = {}
    """Environment variables of the trainer that configure the network and tune libraries: NCCL_*, GLOO_*, UCX_*, FI_* and similar. The
    administrator sets other variables for all jobs; credentials come from checkpoint.secretName."""

    image: Image | None = None
    """Trainer image. Default: the operator's."""

    image_pull_secrets: Annotated[tuple[Name, ...], Field(max_length=16)] = ()
    """Secrets for the image registry."""
