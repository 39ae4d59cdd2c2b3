"""The coscheduling plugin of scheduler-plugins: a PodGroup, a label, and a configurable scheduler name."""

from __future__ import annotations

from typing import Any

from llmtrain_operator.api.job import LLMTrainJob, Spec
from llmtrain_operator.kube.gangs.pod_groups import admission_in
from llmtrain_operator.kube.gangs.scheduler import GangMetadata
from llmtrain_operator.kube.render_settings import RenderSettings
from llmtrain_operator.life.observed import Admission, GangKind

GROUP = "scheduling.x-k8s.io"


class Coscheduling:
    """Admits a gang by its PodGroup."""

    kind: GangKind = "coscheduling"
    program, group, version, read_kind = "scheduler-plugins", GROUP, f"{GROUP}/v1alpha1", "PodGroup"

    def suits(self, spec: Spec) -> bool:
        return True

    def gang_metadata(self, job: LLMTrainJob, group: str, index: int, settings: RenderSettings) -> GangMetadata:
        return GangMetadata(labels={f"{GROUP}/pod-group": group}, scheduler=settings.coscheduling_scheduler)

    def render(self, job: LLMTrainJob) -> dict[str, Any] | None:
        return {"minMember": job.spec.resources.nodes}

    def group_version(self, settings: RenderSettings) -> str | None:
        return settings.pod_group_versions.get(GROUP, self.version)

    def read(self, found: object) -> Admission:
        return admission_in(found)
