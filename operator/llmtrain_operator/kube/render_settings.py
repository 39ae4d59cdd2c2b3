"""Settings of the cluster and of the operator that rendering needs, as one value that is created when the operator starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

RENDEZVOUS_PORT = 29400
HTTP_PORT = 9400
"""Port of every agent: /metrics, /status, /healthz."""

HTTP_PORT_NAME = "http"


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderSettings:
    """Settings of the operator that affect pods."""

    image: str
    """Trainer image of jobs that name none."""

    operator_namespace: str = "llmtrain-system"
    """Namespace of the operator. Its pods, and those of `metrics_namespaces`, may reach the agents' HTTP port."""

    metrics_namespaces: tuple[str, ...] = ()
    """Namespaces whose pods read /metrics, such as monitoring."""

    domain: str = "cluster.local"
    """DNS domain of the cluster."""

    coscheduling_scheduler: str = "scheduler-plugins-scheduler"
    """schedulerName under which scheduler-plugins runs."""

    image_pull_policy: str | None = None
    """Default: Kubernetes' own, by the image's tag."""

    user: int = 1000
    """User and group id of the containers, so that an image need not define a user."""

    environment: Mapping[str, str] = field(default_factory=dict)
    """Further environment variables of the trainer container, such as HF_ENDPOINT or a proxy."""

    pod_group_versions: Mapping[str, str] = field(default_factory=dict)
    """API group -> apiVersion of PodGroup, where the cluster serves another than the default."""
