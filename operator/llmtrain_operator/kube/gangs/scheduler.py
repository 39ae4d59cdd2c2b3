"""What a scheduler of gangs is to the operator: how it is found in a cluster, what it wants to see on pods, and what it says of a gang.

One group an attempt: a group that was admitted once is not admitted again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from llmtrain_operator.api.job import LLMTrainJob, Spec
from llmtrain_operator.kube.render_settings import RenderSettings
from llmtrain_operator.life.observed import Admission, GangKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """Metadata of a pod for its gang."""

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
    """apiVersion of the object that is read, where the cluster does not say which it prefers."""

    read_kind: str
    """Kind of the object with the state of a gang."""

    def suits(self, spec: Spec) -> bool:
        """Whether gang: auto may take it for this job, where it is installed."""
        ...

    def marks(self, job: LLMTrainJob, group: str, index: int, settings: RenderSettings) -> Marks:
        """Of the pod with this index in the gang called `group`."""
        ...

    def render(self, job: LLMTrainJob) -> dict[str, Any] | None:
        """spec of the PodGroup that is created for an attempt; None where pods alone make the gang."""
        ...

    def group_version(self, settings: RenderSettings) -> str | None:
        """apiVersion of its PodGroups; None where pods alone make the gang."""
        ...

    def read(self, found: object) -> Admission:
        """What the object of kind `read_kind` says of its gang."""
        ...
