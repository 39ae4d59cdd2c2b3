"""Who admits a job's pods all or none: what this cluster has, and what it says of a job."""

from __future__ import annotations

from dataclasses import dataclass

from llmtrain_operator.api.job import Spec
from llmtrain_operator.kube.api.client import Client, Object, path_of
from llmtrain_operator.life.from_objects import pod_group_of, workload_of
from llmtrain_operator.life.observed import Admission, GangKind
from llmtrain_operator.manifest.problem import Problem

KUEUE, VOLCANO, COSCHEDULING = "kueue.x-k8s.io", "scheduling.volcano.sh", "scheduling.x-k8s.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class GangApis:
    """API group -> its preferred apiVersion, of those groups that admit gangs and that the cluster serves."""

    versions: dict[str, str]

    @classmethod
    async def of(cls, client: Client) -> GangApis:
        """Ask the API server once, at the start: who installs Kueue later restarts the operator. Raises ApiError."""
        found: Object = await client.get("/apis") or {}
        versions = {group["name"]: group["preferredVersion"]["groupVersion"] for group in found.get("groups") or []}
        return cls(versions={name: versions[name] for name in (KUEUE, VOLCANO, COSCHEDULING) if name in versions})


def gang_of(spec: Spec | None, apis: GangApis) -> GangKind:
    """What the manifest says; for auto what the cluster has, else this operator's own order."""
    if spec is None:
        return "operator"
    if spec.scheduling.gang != "auto":
        return spec.scheduling.gang
    if spec.scheduling.queue and KUEUE in apis.versions:
        return "kueue"
    if VOLCANO in apis.versions:
        return "volcano"
    return "coscheduling" if COSCHEDULING in apis.versions else "operator"


def not_served(spec: Spec | None, apis: GangApis) -> str | None:
    """A refusal where the manifest asks for somebody to admit its gang who is not there."""
    group, program = _ADMIT.get(spec.scheduling.gang, ("", "")) if spec else ("", "")
    if not group or group in apis.versions:
        return None
    rule = f"this cluster does not serve {group}, or did not when the operator started"
    way_out = f"Install {program} and restart the operator, or leave gang out"
    return str(Problem("spec.scheduling.gang", spec.scheduling.gang if spec else "", rule, way_out))


_ADMIT = {"kueue": (KUEUE, "Kueue"), "volcano": (VOLCANO, "Volcano"), "coscheduling": (COSCHEDULING, "scheduler-plugins")}


async def admission_of(client: Client, apis: GangApis, gang: GangKind, namespace: str, name: str) -> Admission | None:
    """What the queue says of the gang `name`; None where nobody admits it, or where it is not known there yet. Raises ApiError."""
    if gang == "kueue":
        found = await client.get(path_of(apis.versions.get(KUEUE, f"{KUEUE}/v1beta1"), "Workload", namespace, name))
        return workload_of(found) if found else None
    if gang in ("volcano", "coscheduling"):
        group = VOLCANO if gang == "volcano" else COSCHEDULING
        found = await client.get(path_of(apis.versions.get(group, f"{group}/v1beta1"), "PodGroup", namespace, name))
        return pod_group_of(found) if found else None
    return None
