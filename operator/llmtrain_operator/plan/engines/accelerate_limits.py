"""Refusals of layouts that engine accelerate cannot run: it knows replicas alone."""

from __future__ import annotations

from llmtrain_operator.manifest.problem import Problem
from llmtrain_operator.plan.layout.request import LayoutRequest, Refusal
from llmtrain_trainer.config.tables.families import TRAINED
from llmtrain_trainer.config.tables.other_families import OTHER_FAMILIES
from llmtrain_trainer.config.tables.tasks import is_packed


def replicas_alone(request: LayoutRequest) -> Problem | None:
    """Every degree other than data must be 1."""
    degrees = request.degrees
    cut = {"pipeline": degrees.pp, "context": degrees.cp, "tensor": degrees.tp, "expert": degrees.ep}
    found = next(((name, degree) for name, degree in cut.items() if degree > 1), None)
    if found is None:
        return None
    name, degree = found
    other = ", or use engine native" if request.shape is None or request.shape.model_type in TRAINED else ""
    rule = "engine accelerate trains whole models as replicas, and cuts none into parts"
    return Problem(f"spec.parallelism.{name}", str(degree), rule, f"Leave {name} out{other}")


def zero_stage(request: LayoutRequest) -> Problem | None:
    if request.degrees.zero != 1:
        return None
    rule = "engine accelerate replicates everything (0: DDP), or shards weights, gradients and optimizer state together (2, 3: FSDP2)"
    return Problem("spec.parallelism.zeroStage", "1", rule, "Use 2 or 3 to shard, or 0 to replicate")


def compiled(request: LayoutRequest) -> Problem | None:
    if not request.job.spec.training.compile:
        return None
    return Problem("spec.training.compile", "true", "engine accelerate compiles no layers", "Leave compile out, or use engine native")


def task_of_others(request: LayoutRequest) -> Problem | None:
    if (kind := _other(request)) is None or request.job.spec.task in ("pretrain", "sft"):
        return None
    return Problem("spec.task", request.job.spec.task, f"model_type {kind} is trained as a language model alone", "Use pretrain or sft")


def packed_others(request: LayoutRequest) -> Problem | None:
    spec = request.job.spec
    if (kind := _other(request)) is None or OTHER_FAMILIES[kind].packs or not is_packed(spec.task, spec.training.packing):
        return None
    rule = f"samples that are packed into one row would, with model_type {kind}, see each other"
    return Problem("spec.training.packing", "true", rule, "Write packing: false")


def adapted_others(request: LayoutRequest) -> Problem | None:
    peft = request.job.spec.peft
    if (kind := _other(request)) is None or OTHER_FAMILIES[kind].adapters or peft is None:
        return None
    return Problem("spec.peft.method", peft.method, f"adapters of model_type {kind} cannot be merged as they are trained", "Leave peft out")


def recomputed_others(request: LayoutRequest) -> Problem | None:
    """Where transformers cannot recompute the activations."""
    kind, asked = _other(request), request.job.spec.training.activation_checkpointing
    if kind is None or OTHER_FAMILIES[kind].recomputes or asked == "none":
        return None
    return Problem(
        "spec.training.activationCheckpointing",
        asked,
        f"transformers has no recomputation of model_type {kind}",
        "Write none, or leave it out",
    )


def attention_of_others(request: LayoutRequest) -> Problem | None:
    kind, asked = _other(request), request.job.spec.model.attention
    if kind is None or asked != "flash":
        return None
    return Problem("spec.model.attention", asked, f"flash attention of model_type {kind} was never shown to be right", "Use sdpa or eager")


def router_of_others(request: LayoutRequest) -> Problem | None:
    """The routers of these families have no names that router_balance.py knows."""
    if (kind := _other(request)) is None or request.shape is None or not request.shape.traits.router_loss:
        return None
    way_out = "Write output_router_logits: false in config.json of a copy, or in model.config"
    return Problem(
        "spec.model", request.job.spec.model.source or kind, f"engine accelerate has no router loss for model_type {kind}", way_out
    )


def _other(request: LayoutRequest) -> str | None:
    """model_type of a model that this engine alone trains."""
    return request.shape.model_type if request.shape and request.shape.model_type in OTHER_FAMILIES else None


LIMITS: tuple[Refusal, ...] = (
    replicas_alone,
    zero_stage,
    compiled,
    task_of_others,
    packed_others,
    adapted_others,
    recomputed_others,
    attention_of_others,
    router_of_others,
)
