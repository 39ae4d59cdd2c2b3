"""What the job runs on: nodes, devices, and the resources of its pods."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from llmtrain_operator.api.job.kubernetes import Bytes, Cores, DeviceName, PageSize, ResourceName
from llmtrain_trainer.config import PositiveInt, Strict

MOST_NODES = 4096


class Resources(Strict):
    """One pod per node; one rank per GPU, or one per CPU process."""

    nodes: Annotated[int, Field(ge=1, le=MOST_NODES)] = 1
    """Number of nodes, one pod each."""

    gpus_per_node: Annotated[int, Field(ge=0, le=64)] = 0
    """GPUs per node, one rank each. 0 trains on CPU processes (procsPerNode)."""

    procs_per_node: Annotated[int, Field(ge=1, le=256)] | None = None
    """CPU processes per node if gpusPerNode is 0. Default: 1."""

    gpu: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """GPU product, such as H100-80GB or A100-40GB; the plan uses its memory and speed. Required with gpusPerNode."""

    gpu_resource: ResourceName = "nvidia.com/gpu"
    """Name under which the device plugin offers the GPU."""

    cpu: Cores | None = None
    """CPU request of a pod, in cores. Without cpuLimit no limit is set, because a throttled rank slows down all others."""

    cpu_limit: Cores | None = None
    """CPU limit of a pod. A whole number equal to cpu, with memory set, gives the pod exclusive cores on nodes whose kubelet has the static
    CPU manager policy."""

    memory: Bytes | None = None
    """Memory request and limit of a pod."""

    shared_memory: Bytes | None = None
    """Size of /dev/shm, which NCCL and data loading use. Default: a share of memory."""

    hugepages: Annotated[dict[PageSize, Bytes], Field(max_length=4)] = {}
    """Huge pages of a pod by page size, such as {2Mi: 10Gi}; some RDMA stacks pin them. Needs memory or cpu."""

    rdma: Annotated[dict[DeviceName, PositiveInt], Field(max_length=8)] = {}
    """Further device resources that a pod requests, such as {rdma/hca: 8}."""

    @property
    def ranks_per_node(self) -> int:
        """One per GPU, or per CPU process."""
        return self.gpus_per_node or self.procs_per_node or 1

    @property
    def ranks(self) -> int:
        """Of all nodes."""
        return self.nodes * self.ranks_per_node
