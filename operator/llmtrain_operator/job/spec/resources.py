"""What it runs on: nodes, devices, and what the container asks for."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

from llmtrain_trainer.config import PositiveInt, Strict

_QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$"


def _as_text(value: object) -> object:
    """`cpu: 16` is how everybody writes it."""
    return str(value) if type(value) is int else value


Quantity = Annotated[
    str,
    Field(pattern=_QUANTITY, max_length=32),
    BeforeValidator(_as_text),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": _QUANTITY, "examples": ["500m", "64Gi"]}]}),
]
"""A Kubernetes quantity, such as 500m, 16 or 64Gi."""


class Resources(Strict):
    """One pod a node; one rank a GPU, or one a CPU process."""

    nodes: Annotated[int, Field(ge=1, le=4096)] = 1
    """Number of nodes, one pod each."""

    gpus_per_node: Annotated[int, Field(ge=0, le=64)] = 0
    """GPUs a node, one rank each. 0 trains on CPU processes (procsPerNode)."""

    procs_per_node: Annotated[int, Field(ge=1, le=256)] | None = None
    """CPU processes a node, where gpusPerNode is 0. Default 1."""

    gpu: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """GPU product, such as H100-80GB or A100-40GB: its memory and speed enter the plan. Needed with gpusPerNode."""

    gpu_resource: Annotated[str, Field(pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$", max_length=128, examples=["nvidia.com/gpu"])] = (
        "nvidia.com/gpu"
    )
    """Name under which the device plugin offers the GPU."""

    cpu: Quantity | None = None
    """CPU request of a pod, in cores; no limit is set, since throttled ranks hold up the others."""

    memory: Quantity | None = None
    """Memory request and limit of a pod."""

    shared_memory: Quantity | None = None
    """Size of /dev/shm. Default: a share of memory that NCCL and data loading need."""

    rdma: Annotated[dict[Annotated[str, Field(max_length=128)], PositiveInt], Field(max_length=8)] = {}
    """Further device resources a pod asks for, such as rdma/hca: 8."""
