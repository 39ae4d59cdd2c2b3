"""Volumes of a trainer pod and where they are mounted. The root file system is read-only: all that is written is here."""

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
    """NCCL takes tens of MiB a rank, workers that read data more; Kubernetes' own 64 MiB break both. Only what is used counts."""
    return spec.resources.shared_memory or (f"{2 * spec.resources.gpus_per_node}Gi" if spec.resources.gpus_per_node else "1Gi")


def claims(spec: Spec) -> dict[str, bool]:
    """Volume claims that the manifest names -> whether something is written there."""
    found: dict[str, bool] = {}
    for place in uris(spec):
        if place.claim is not None:
            found[place.claim] = found.get(place.claim, False) or place.written
    return found


def _claim(number: int, claim: str, written: bool) -> Volume:
    source = {"persistentVolumeClaim": {"claimName": claim} | ({} if written else {"readOnly": True})}
    return Volume(name=f"claim-{number}", source=source, at=f"{MOUNTED}/{claim}", read_only=not written)
