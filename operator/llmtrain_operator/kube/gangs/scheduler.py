"""The interface to a gang scheduler: how to detect it, which metadata it needs on pods, and how to read its state of a gang.

Each attempt has a group of its own, because no scheduler admits a group twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from llmtrain_operator.api.job import LLMTrainJob, Spec
from llmtrain_operator.kube.render_settings import RenderSettings
from llmtrain_operator.life.observed import Admission, GangKind


@dataclass(frozen=True, slots=True, kw_only=True)
class GangMetadata:
    """Labels, annotations and schedulerName that put a pod into its gang."""

    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    scheduler: str | None = None


class GangScheduler(Protocol):
    """One gang scheduler: names and pure functions."""

    kind: GangKind
    """Its name in spec.scheduling.gang."""

    program: str
    """Name of the program to install."""

    group: str
    """API group whose presence means that it is installed."""

    version: str
    """apiVersion of the object that is read, if the cluster does not say which it prefers."""

    read_kind: str
    """Kind of the object with the state of a gang."""

    def suits(self, spec: Spec) -> bool:
        """Whether `gang: auto` may choose it for this job, if it is installed."""
        ...

    def gang_metadata(self, job: LLMTrainJob, group: str, index: int, settings: RenderSettings) -> GangMetadata:
        """Metadata of the pod with this index in the gang called `group`."""
        ...

    def render(self, job: LLMTrainJob) -> dict[str, Any] | None:
        """spec of the PodGroup that is created for an attempt; None if pods are grouped by their metadata alone."""
        ...

    def group_version(self, settings: RenderSettings) -> str | None:
        """apiVersion of its PodGroups; None if pods are grouped by their metadata alone."""
        ...

    def read(self, found: object) -> Admission:
        """The state of a gang, from its object of kind `read_kind`."""
        ...
