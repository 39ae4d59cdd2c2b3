"""Engine deepspeed in the plan: ZeRO stages 0 to 3, offload, tensor and pipeline parallelism."""

from __future__ import annotations

from collections.abc import Iterator

from llmtrain_operator.plan.engines import zero_buffers
from llmtrain_operator.plan.engines.deepspeed_limits import LIMITS
from llmtrain_operator.plan.engines.traits import EngineTraits
from llmtrain_operator.plan.memory.bytes_per_parameter import NO_OFFLOAD, StateBytes
from llmtrain_operator.plan.memory.workload import EngineMemory, LossBytes, Term, Workload
from llmtrain_operator.plan.model.weights import RankParameters
from llmtrain_trainer.config import Offload


class DeepSpeedMemory(EngineMemory):
    """Sharding by stage: Rajbhandari et al. 2020 (ZeRO), section 3.1. From stage 1 on the optimizer has its own fp32 weights."""

    def trained(self, zero: int, precision: str, dp: int, offload: Offload) -> StateBytes:
        """In bf16, gradients accumulate in fp32, in stage 1 in addition to the bf16 ones. Sharded gradients are offloaded with the
        optimizer: Ren et al. 2021 (ZeRO-Offload), section 4."""
        away = offload.optimizer != "none"
        width = 2 if precision == "bf16" else 4
        gradients = (6.0 if precision == "bf16" else 4.0) if zero < 2 else 0.0 if away else 4.0 / dp
        optimizer = 0.0 if away else (12.0 / dp if zero else 8.0)
        weights = width / (dp if zero >= 3 else 1)
        return StateBytes(
            weights=0.0 if offload.parameters != "none" else weights,
            gradients=gradients,
            optimizer=optimizer,
            source=f"ZeRO-{zero} over {dp}" + (", offloaded" if offload != NO_OFFLOAD else ""),
        )

    def frozen(self, zero: int, precision: str, dp: int) -> float:
        return (2 if precision == "bf16" else 4) / (dp if zero == 3 else 1)

    def gradients_always_there(self, workload: Workload) -> bool:
        return workload.mesh.zero_stage == 3 or workload.offload.optimizer != "none"

    def working_copies(self, workload: Workload, mine: RankParameters) -> Iterator[Term]:
        if workload.mesh.zero_stage == 3:
            yield from zero_buffers.stage_3(workload, mine)

    def bucket(self, workload: Workload, mine: RankParameters) -> Term:
        return zero_buffers.bucket(workload, mine) if workload.mesh.zero_stage else super().bucket(workload, mine)

    def step_copy(self, workload: Workload, mine: RankParameters) -> Term | None:
        return zero_buffers.step_copy(workload, mine) if workload.mesh.zero_stage in (1, 2) else None

    def loss(self, workload: Workload, vocabulary_parts: int) -> LossBytes:
        """Logits split by tp are all-gathered, and overwritten by their gradient."""
        return LossBytes(whole=True, overwritten=True, each=0)


DEEPSPEED = EngineTraits(
    name="deepspeed",
    limits=LIMITS,
    memory=DeepSpeedMemory(),
    sharding_stages=(3, 1),
    searched_stages=(1, 2, 3),
    sharding_cost={2: 0.01, 3: 0.05},
    alone_reads=("offload", "deepspeed"),
)
