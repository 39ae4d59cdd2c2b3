"""The gang schedulers that this cluster has, and their state of a job."""

from __future__ import annotations

from dataclasses import dataclass

from llmtrain_operator.api.job import Spec
from llmtrain_operator.kube.api.client import Client, Object, path_of
from llmtrain_operator.kube.gangs.registry import SCHEDULERS
from llmtrain_operator.life.observed import Admission, GangKind
from llmtrain_operator.manifest.problem import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class GangApis:
    """API group -> preferred apiVersion, for the gang schedulers that the cluster serves."""

    versions: dict[str, str]

    @classmethod
    async def of(cls, client: Client) -> GangApis:
        """Ask the API server once, at the start; after installing Kueue later, restart the operator. Raises ApiError."""
        found: Object = await client.get("/apis") or {}
        versions = {group["name"]: group["preferredVersion"]["groupVersion"] for group in found.get("groups") or []}
        return cls(versions={each.group: versions[each.group] for each in SCHEDULERS.values() if each.group in versions})


def gang_of(spec: Spec | None, apis: GangApis) -> GangKind:
    """The gang scheduler of the manifest; for auto the one that the cluster has, else the operator's own order."""
    if spec is None:
        return "operator"
    if spec.scheduling.gang != "auto":
        return spec.scheduling.gang
    found = (each.kind for each in SCHEDULERS.values() if each.group in apis.versions and each.suits(spec))
    return next(found, "operator")


def not_served(spec: Spec | None, apis: GangApis) -> str | None:
    """A refusal if the manifest names a gang scheduler that the cluster does not have."""
    asked = SCHEDULERS.get(spec.scheduling.gang) if spec else None
    if asked is None or asked.group in apis.versions:
        return None
    rule = f"this cluster does not serve {asked.group}, or did not serve it when the operator started"
    way_out = f"Install {asked.program} and restart the operator, or leave gang out"
    return str(Problem("spec.scheduling.gang", asked.kind, rule, way_out))


async def admission_of(client: Client, apis: GangApis, gang: GangKind, namespace: str, name: str) -> Admission | None:
    """The admission of the gang `name`; None if nothing admits it, or if it is not known there yet. Raises ApiError."""
    scheduler = SCHEDULERS.get(gang)
    if scheduler is None:
        return None
    version = apis.versions.get(scheduler.group, scheduler.version)
    found = await client.get(path_of(version, scheduler.read_kind, namespace, name))
    return scheduler.read(found) if found else None
