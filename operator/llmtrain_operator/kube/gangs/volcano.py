"""Volcano: a PodGroup, with a queue and a priority, and its own scheduler."""

from __future__ import annotations

from typing import Any

from llmtrain_operator.api.job import LLMTrainJob, Spec
from llmtrain_operator.kube.gangs.pod_groups import admission_in
from llmtrain_operator.kube.gangs.scheduler import GangMetadata
from llmtrain_operator.kube.render_settings import RenderSettings
from llmtrain_operator.life.observed import Admission, GangKind

GROUP = "scheduling.volcano.sh"


class Volcano:
    """Admits a gang by its PodGroup."""

    kind: GangKind = "volcano"
    program, group, version, read_kind = "Volcano", GROUP, f"{GROUP}/v1beta1", "PodGroup"

    def suits(self, spec: Spec) -> bool:
        return True

    def gang_metadata(self, job: LLMTrainJob, group: str, index: int, settings: RenderSettings) -> GangMetadata:
        return GangMetadata(annotations={"scheduling.k8s.io/group-name": group}, scheduler="volcano")

    def render(self, job: LLMTrainJob) -> dict[str, Any] | None:
        scheduling = job.spec.scheduling
        spec: dict[str, Any] = {"minMember": job.spec.resources.nodes}
        spec |= {"queue": scheduling.queue} if scheduling.queue else {}
        return spec | ({"priorityClassName": scheduling.priority_class_name} if scheduling.priority_class_name else {})

    def group_version(self, settings: RenderSettings) -> str | None:
        return settings.pod_group_versions.get(GROUP, self.version)

    def read(self, found: object) -> Admission:
        return admission_in(found)
