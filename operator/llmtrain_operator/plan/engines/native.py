"""Engine native in the plan: FSDP2, tensor, pipeline, context and expert parallelism."""

from __future__ import annotations

from collections.abc import Iterator

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.plan.engines.native_limits import LIMITS
from llmtrain_operator.plan.engines.traits import EngineTraits
from llmtrain_operator.plan.layout.hardware import Gpu
from llmtrain_operator.plan.memory.bytes_per_parameter import StateBytes
from llmtrain_operator.plan.memory.workload import EngineMemory, LossBytes, Term, Workload
from llmtrain_operator.plan.model.shape import ModelShape
from llmtrain_operator.plan.model.weights import RankParameters
from llmtrain_trainer.config import Offload
from llmtrain_trainer.config.formats import amount


class NativeMemory(EngineMemory):
    """Fp32 weights, gradients and moments in every precision, frozen weights in that of computation; FSDP2 shards them with zeroStage 3."""

    def trained(self, zero: int, precision: str, dp: int, offload: Offload) -> StateBytes:
        share = dp if zero == 3 else 1
        whole = "fp32 weight, gradient and two moments"
        source = f"{whole} over {share}" if share > 1 else whole
        return StateBytes(weights=4 / share, gradients=4 / share, optimizer=8 / share, source=source)

    def frozen(self, zero: int, precision: str, dp: int) -> float:
        return (2 if precision == "bf16" else 4) / (dp if zero == 3 else 1)

    def working_copies(self, workload: Workload, mine: RankParameters) -> Iterator[Term]:
        """FSDP2's unsharded weights: with ZeRO-3 embedding, LM head and two layers at a time, else all of them."""
        element = workload.element
        if not _shards(workload):
            return
        if workload.peft and (workload.mesh.zero_stage == 0 or workload.replicas == 1):
            copied = mine.adapter + (mine.experts if workload.mesh.tp * workload.mesh.ep > 1 else 0)
            how = f"{element} bytes per parameter that is not both frozen and whole: FSDP2"
            yield Term(name="gathered weights", bytes=int(element * copied), how=how)
            return
        if workload.mesh.zero_stage == 3 and workload.mesh.pp == 1:
            yield gathered_layers(workload, mine)
            return
        how = f"{element} bytes per parameter, kept between micro-batches: FSDP2"
        yield Term(name="gathered weights", bytes=int(element * mine.total), how=how)

    def adds_up_whole_gradients(self, workload: Workload) -> bool:
        """Whether FSDP2 accumulates unsharded: in a pipeline, or over several micro-batches."""
        return _shards(workload) and (workload.mesh.pp > 1 or workload.batch.accumulation > 1)

    def reduces_by_unit(self, workload: Workload) -> bool:
        return workload.mesh.pp == 1 and workload.mesh.zero_stage == 3 and _shards(workload)

    def loss(self, workload: Workload, vocabulary_parts: int) -> LossBytes:
        """Full logits are overwritten by their gradient. Split logits (torch's loss_parallel) also need their exponential."""
        whole = vocabulary_parts == 1
        return LossBytes(whole=whole, overwritten=whole, each=16)


def gathered_layers(workload: Workload, mine: RankParameters) -> Term:
    """What FSDP2 holds unsharded of a model whose layers it shards again after their forward pass."""
    how = f"{workload.element} bytes per parameter of embedding, LM head and two layers, unsharded: FSDP2"
    size = workload.element * (mine.embedding_and_head + 2 * mine.largest_layer)
    return Term(name="gathered layers", bytes=int(size), how=how)


def _shards(workload: Workload) -> bool:
    """Whether FSDP2 is used."""
    return workload.replicas > 1 or workload.element == 2


def _wish(job: LLMTrainJob, shape: ModelShape | None, gpu: Gpu | None) -> str:
    spec = job.spec
    if shape is None:
        return "the model's shape is unknown yet, and native trains every layout"
    if spec.peft:
        return f"{spec.peft.method} trains few parameters, in Hugging Face's own layers"
    if gpu is None:
        return "it runs on CPU processes, which Megatron-core does not support"
    gpus = spec.resources.ranks
    return f"{amount(shape.parameters)} parameters on {gpus} GPUs need no other engine, and its checkpoints fit every layout"


NATIVE = EngineTraits(
    name="native",
    limits=LIMITS,
    memory=NativeMemory(),
    sharding_stages=(3,),
    parts_per_context=1,
    gathers_experts=True,
    wish=_wish,
)
