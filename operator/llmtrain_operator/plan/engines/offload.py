"""Host memory of a node that offload needs."""

from __future__ import annotations

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.manifest.quantity import quantity
from llmtrain_operator.plan.layout.request import LayoutRequest
from llmtrain_operator.plan.layout.throughput import trainable_parameters
from llmtrain_operator.plan.model.shape import ModelShape
from llmtrain_trainer.config import Offload

OPTIMIZER = 16
"""Bytes per trained parameter: fp32 weight, gradient and two moments. Rajbhandari et al. 2020 (ZeRO), section 3.1."""

SUMS = 4
"""Additional bytes per trained parameter at stage 3, which accumulates gradients in a separate buffer: grad_partitions_flat_buffer in
DeepSpeed's stage3.py, measured by `make memory`."""


def offloaded_bytes(job: LLMTrainJob, shape: ModelShape) -> int:
    """Bytes on the host of each node: the shards of the model are distributed over the nodes."""
    spec = job.spec
    offload = spec.parallelism.offload or Offload()
    each = OPTIMIZER + (SUMS if spec.parallelism.zero_stage == 3 else 0)
    optimizer = each * trainable_parameters(shape, spec.peft) if offload.optimizer == "cpu" else 0
    width = 2 if spec.training.precision == "bf16" else 4
    weights = width * shape.parameters if offload.parameters == "cpu" else 0
    return (optimizer + weights) // spec.resources.nodes


def lacking(request: LayoutRequest) -> bool:
    """Whether resources.memory is less than the offloaded bytes. Only with GPUs: the estimate for CPU ranks includes them."""
    memory = request.job.spec.resources.memory
    if request.gpu is None or request.shape is None or memory is None:
        return False
    return offloaded_bytes(request.job, request.shape) > quantity(memory)
