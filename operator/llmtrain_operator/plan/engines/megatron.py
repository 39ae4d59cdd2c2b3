"""Engine megatron in the plan: Megatron-core's own model, kernels and schedules."""

from __future__ import annotations

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.plan.engines.megatron_limits import LIMITS
from llmtrain_operator.plan.engines.traits import EngineTraits
from llmtrain_operator.plan.layout.hardware import Gpu
from llmtrain_operator.plan.layout.throughput import LargeModelMfu
from llmtrain_operator.plan.memory.activations import fused_layer_bytes
from llmtrain_operator.plan.memory.bytes_per_parameter import StateBytes
from llmtrain_operator.plan.memory.workload import EngineMemory, LossBytes, Workload
from llmtrain_operator.plan.model.shape import ModelShape
from llmtrain_trainer.config import Mesh, Offload
from llmtrain_trainer.config.formats import amount

LARGE = 30e9
"""Parameters from which on `auto` prefers Megatron for its fused kernels. A judgement: published speeds differ most there."""

MANY = 16
"""GPUs from which on `auto` prefers Megatron. A judgement."""


class MegatronMemory(EngineMemory):
    """18 bytes, or 6 + 12/dp with the distributed optimizer: theoretical_memory_usage.py of Megatron-LM."""

    def trained(self, zero: int, precision: str, dp: int, offload: Offload) -> StateBytes:
        weights, optimizer = (2, 12) if precision == "bf16" else (4, 8)
        source = f"distributed optimizer over {dp}" if zero else "optimizer state replicated on every rank"
        return StateBytes(weights=weights, gradients=4, optimizer=optimizer / (dp if zero else 1), source=source)

    def frozen(self, zero: int, precision: str, dp: int) -> float:
        return 2 if precision == "bf16" else 4

    def sequence_parts(self, mesh: Mesh) -> int:
        """Korthikanti et al. 2022, section 4.2.2."""
        return mesh.tp

    def layer_bytes(self, workload: Workload, layer: int) -> float:
        return fused_layer_bytes(workload.shape, layer, element=workload.element, tp=workload.mesh.tp)

    def gradients_always_there(self, workload: Workload) -> bool:
        return True

    def loss(self, workload: Workload, vocabulary_parts: int) -> LossBytes:
        """The softmax is overwritten by its gradient, and overwrites fp32 logits."""
        return LossBytes(whole=vocabulary_parts == 1, overwritten=False, each={2: 8, 4: 4}[workload.element])


def _wish(job: LLMTrainJob, shape: ModelShape | None, gpu: Gpu | None) -> str | None:
    spec = job.spec
    if shape is None or spec.peft or gpu is None:
        return None
    gpus, large = spec.resources.ranks, f"{amount(shape.parameters)} parameters"
    if shape.parameters < LARGE or gpus < MANY or gpu.domain == 1:
        return None
    return f"full training of {large} on {gpus} linked GPUs gains most from its fused kernels and schedules"


MEGATRON = EngineTraits(
    name="megatron",
    limits=LIMITS,
    memory=MegatronMemory(),
    sharding_stages=(1,),
    large_model=LargeModelMfu(parameters=LARGE, mfu=0.44, source="published runs of Megatron-LM on large models"),
    wish=_wish,
)
