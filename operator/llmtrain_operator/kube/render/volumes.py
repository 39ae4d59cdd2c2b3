"""Volumes of a trainer pod and their mounts. The root file system is read-only: all writes go to these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llmtrain_operator.api.job import LLMTrainJob, Spec
from llmtrain_operator.kube.render.config_map import FILE
from llmtrain_operator.manifest.uris import uris
from llmtrain_trainer.config import MOUNTED

CONFIG_DIR = "/etc/llmtrain"
CONFIG = f"{CONFIG_DIR}/{FILE}"
SCRATCH = "/var/lib/llmtrain"
RUN_DIR, CACHE, HOME = f"{SCRATCH}/run", f"{SCRATCH}/cache", f"{SCRATCH}/home"


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A volume and its mount."""

    name: str
    source: dict[str, Any]
    at: str
    read_only: bool = False

    def volume(self) -> dict[str, Any]:
        return {"name": self.name, **self.source}

    def mount(self) -> dict[str, Any]:
        return {"name": self.name, "mountPath": self.at} | ({"readOnly": True} if self.read_only else {})


def volumes(job: LLMTrainJob, config_map: str) -> list[Volume]:
    """In a fixed order."""
    shm = {"emptyDir": {"medium": "Memory", "sizeLimit": shared_memory(job.spec)}}
    return [
        Volume(name="config", source={"configMap": {"name": config_map}}, at=CONFIG_DIR, read_only=True),
        Volume(name="scratch", source={"emptyDir": {}}, at=SCRATCH),
        Volume(name="tmp", source={"emptyDir": {}}, at="/tmp"),
        Volume(name="shm", source=shm, at="/dev/shm"),
        *(_claim(number, claim, written) for number, (claim, written) in enumerate(sorted(claims(job.spec).items()))),
    ]


def shared_memory(spec: Spec) -> str:
    """Size of /dev/shm. NCCL needs tens of MiB per rank, data loaders more; Kubernetes' default of 64 MiB is too small for both."""
    return spec.resources.shared_memory or (f"{2 * spec.resources.gpus_per_node}Gi" if spec.resources.gpus_per_node else "1Gi")


def claims(spec: Spec) -> dict[str, bool]:
    """Volume claims in the manifest -> whether the job writes to them."""
    found: dict[str, bool] = {}
    for place in uris(spec):
        if place.claim is not None:
            found[place.claim] = found.get(place.claim, False) or place.written
    return found


def _claim(number: int, claim: str, written: bool) -> Volume:
    source = {"persistentVolumeClaim": {"claimName": claim} | ({} if written else {"readOnly": True})}
    return Volume(name=f"claim-{number}", source=source, at=f"{MOUNTED}/{claim}", read_only=not written)
