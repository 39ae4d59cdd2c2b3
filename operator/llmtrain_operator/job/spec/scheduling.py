"""Where and when the pods are placed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from llmtrain_trainer.config import Strict

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]


class Topology(Strict):
    """Keep the gang close: a node label whose value the pods share."""

    required: Annotated[str, Field(max_length=317)] | None = None
    """All pods in one domain of this label, or the gang waits."""

    preferred: Annotated[str, Field(max_length=317)] | None = None
    """One domain of this label if there is room."""


class Toleration(Strict):
    """As in a pod."""

    key: str | None = None
    """Taint key; empty matches every key, with operator Exists."""

    operator: Literal["Exists", "Equal"] = "Equal"
    """How key and value are compared."""

    value: str | None = None
    """Taint value, for Equal."""

    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Taint effect; empty matches all."""


class Scheduling(Strict):
    """Queue, gang, placement."""

    queue: Name | None = None
    """Queue of Kueue or Volcano."""

    gang: Literal["auto", "none", "kueue", "volcano", "coscheduling"] = "auto"
    """Who admits all pods or none. auto: whatever the cluster has, else the operator's own order."""

    topology: Topology | None = None
    """Closeness of the pods."""

    priority_class_name: Name | None = None
    """PriorityClass of the pods."""

    node_selector: dict[str, str] = {}
    """Labels that a node must have."""

    tolerations: tuple[Toleration, ...] = ()
    """Taints the pods accept."""

    service_account_name: Name | None = None
    """ServiceAccount of the pods, for cloud identities. Its token is not mounted."""

    image: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    """Trainer image. Default: the operator's."""

    image_pull_secrets: tuple[Name, ...] = ()
    """Secrets for the registry."""
