"""What offload keeps in the host memory of a node."""

from __future__ import annotations

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.manifest.quantity import quantity
from llmtrain_operator.plan.layout.request import Case
from llmtrain_operator.plan.layout.throughput import trainable_parameters
from llmtrain_operator.plan.model.shape import ModelShape
from llmtrain_trainer.config import Offload

OPTIMIZER = 16
"""Bytes a trained weight: fp32 weight, gradient and two moments. Rajbhandari et al. 2020 (ZeRO), section 3.1."""

SUMS = 4
"""Bytes a trained weight more at stage 3, which adds gradients up in a buffer beside the optimizer's: grad_partitions_flat_buffer in
DeepSpeed's stage3.py, seen in `make memory`."""


def offloaded_bytes(job: LLMTrainJob, shape: ModelShape) -> int:
    """On the host of each node: every share of the model lies on one of them."""
    spec = job.spec
    offload = spec.parallelism.offload or Offload()
    each = OPTIMIZER + (SUMS if spec.parallelism.zero_stage == 3 else 0)
    optimizer = each * trainable_parameters(shape, spec.peft) if offload.optimizer == "cpu" else 0
    width = 2 if spec.training.precision == "bf16" else 4
    weights = width * shape.parameters if offload.parameters == "cpu" else 0
    return (optimizer + weights) // spec.resources.nodes


def lacking(case: Case) -> bool:
    """Whether resources.memory names less than what is offloaded. Beside GPUs alone: of CPU ranks the plan counts it as theirs."""
    memory = case.job.spec.resources.memory
    if case.gpu is None or case.shape is None or memory is None:
        return False
    return offloaded_bytes(case.job, case.shape) > quantity(memory)
