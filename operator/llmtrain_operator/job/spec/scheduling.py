"""Where and when the pods are placed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from llmtrain_trainer.config import Name, Strict

LabelKey = Annotated[str, Field(min_length=1, max_length=317)]
LabelValue = Annotated[str, Field(max_length=63)]


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


class Scheduling(Strict):
    """Queue, gang, placement."""

    queue: Name | None = None
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

    image: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    """Trainer image. Default: the operator's."""

    image_pull_secrets: Annotated[tuple[Name, ...], Field(max_length=16)] = ()
    """Secrets for the image registry."""
