"""Engine accelerate in the plan: whole models as replicas, by DDP or FSDP2."""

from __future__ import annotations

from collections.abc import Iterator

from llmtrain_operator.plan.engines.accelerate_limits import LIMITS
from llmtrain_operator.plan.engines.native import NativeMemory, gathered_layers
from llmtrain_operator.plan.engines.traits import EngineTraits
from llmtrain_operator.plan.memory import activations
from llmtrain_operator.plan.memory.bytes_per_parameter import StateBytes
from llmtrain_operator.plan.memory.workload import Term, Workload
from llmtrain_operator.plan.model.weights import RankParameters
from llmtrain_trainer.config import Offload


class AccelerateMemory(NativeMemory):
    """FSDP2 as native's with zeroStage 2 or 3. With 0 DDP keeps fp32 weights, and gradients in the buckets that it reduces."""

    def trained(self, zero: int, precision: str, dp: int, offload: Offload) -> StateBytes:
        return super().trained(3 if zero else 0, precision, dp, offload)

    def frozen(self, zero: int, precision: str, dp: int) -> float:
        return super().frozen(3 if zero else 0, precision, dp)

    def working_copies(self, workload: Workload, mine: RankParameters) -> Iterator[Term]:
        """FSDP2's unsharded weights with ZeRO 2 and 3; autocast's bf16 copies under DDP."""
        zero, element = workload.mesh.zero_stage, workload.element
        if zero == 0 and element == 2:
            how = "2 bytes per trained parameter, kept by autocast until its backward pass"
            yield Term(name="cast weights", bytes=int(2 * mine.all_trained), how=how)
        elif zero and (workload.replicas > 1 or element == 2):
            how = f"{element} bytes per parameter, kept until its backward pass: FSDP2"
            kept = Term(name="gathered weights", bytes=int(element * mine.total), how=how)
            yield gathered_layers(workload, mine) if zero == 3 else kept

    def gradients_always_there(self, workload: Workload) -> bool:
        return workload.mesh.zero_stage == 0

    def adds_up_whole_gradients(self, workload: Workload) -> bool:
        return workload.mesh.zero_stage > 0 and super().adds_up_whole_gradients(workload)

    def layer_bytes(self, workload: Workload, layer: int) -> float:
        """Autocast leaves norms, and the values between layers, in fp32: counted as if all values were."""
        if workload.mesh.zero_stage or workload.element == 4:
            return super().layer_bytes(workload, layer)
        return activations.layer_bytes(
            workload.shape, layer, sequence=workload.training.sequence_length, element=4, tp=1, eager=workload.eager
        )


ACCELERATE = EngineTraits(name="accelerate", limits=LIMITS, memory=AccelerateMemory(), sharding_stages=(3,), gathers_experts=True)
