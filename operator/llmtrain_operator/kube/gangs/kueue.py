"""Kueue: a group of plain pods, admitted by a queue. No pod of a group is ever created again, so a failed pod ends the group and frees its
quota."""

from __future__ import annotations

from typing import Any

from llmtrain_operator.api.job import LLMTrainJob, Spec
from llmtrain_operator.kube.gangs.scheduler import GangMetadata
from llmtrain_operator.kube.render_settings import RenderSettings
from llmtrain_operator.life.from_objects import condition_of, mapping_of, text_in
from llmtrain_operator.life.observed import Admission, GangKind
from llmtrain_operator.life.times import seconds_of

GROUP = "kueue.x-k8s.io"


class Kueue:
    """Admits a gang by its Workload."""

    kind: GangKind = "kueue"
    program, group, version, read_kind = "Kueue", GROUP, f"{GROUP}/v1beta1", "Workload"

    def suits(self, spec: Spec) -> bool:
        """Whether the job names a queue."""
        return bool(spec.scheduling.queue)

    def gang_metadata(self, job: LLMTrainJob, group: str, index: int, settings: RenderSettings) -> GangMetadata:
        """Labels of Kueue's pod groups: name, index, queue; annotations for the size and the topology."""
        labels = {f"{GROUP}/pod-group-name": group, f"{GROUP}/pod-group-pod-index": str(index)}
        if job.spec.scheduling.queue:
            labels[f"{GROUP}/queue-name"] = job.spec.scheduling.queue
        annotations = {f"{GROUP}/pod-group-total-count": str(job.spec.resources.nodes), f"{GROUP}/retriable-in-group": "false"}
        if topology := job.spec.scheduling.topology:
            for name, level in (("required", topology.required), ("preferred", topology.preferred)):
                annotations |= {f"{GROUP}/podset-{name}-topology": level} if level else {}
        return GangMetadata(labels=labels, annotations=annotations)

    def render(self, job: LLMTrainJob) -> dict[str, Any] | None:
        return None

    def group_version(self, settings: RenderSettings) -> str | None:
        return None

    def read(self, found: object) -> Admission:
        """Admission from the conditions of the Workload, with the message of an eviction if there is one."""
        status = mapping_of(found, "status")
        admitted, evicted, reserved = (condition_of(status, kind) for kind in ("Admitted", "Evicted", "QuotaReserved"))
        said = evicted if evicted.get("status") == "True" else admitted if admitted.get("message") else reserved
        return Admission(
            admitted=admitted.get("status") == "True",
            since=seconds_of(admitted.get("lastTransitionTime")),
            evicted=evicted.get("status") == "True",
            message=text_in(said, "message") or "",
        )
