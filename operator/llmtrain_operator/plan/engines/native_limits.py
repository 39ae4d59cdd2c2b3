"""Refusals of layouts that engine native cannot run."""

from __future__ import annotations

from llmtrain_operator.manifest.divisors import divisors, listed
from llmtrain_operator.manifest.problem import Problem
from llmtrain_operator.plan.layout.request import LayoutRequest, Refusal
from llmtrain_trainer.config.tables.families import family_named


def family_in_parts(request: LayoutRequest) -> Problem | None:
    """Context and expert parallelism only for families whose parity is measured with them."""
    degrees, shape = request.degrees, request.shape
    if degrees.cp == degrees.ep == 1 or shape is None or family_named(shape.model_type).parts_shown:
        return None
    field, degree = ("context", degrees.cp) if degrees.cp > 1 else ("expert", degrees.ep)
    rule = f"a {shape.model_type} trains with tensor, pipeline and data parallelism only"
    return Problem(f"spec.parallelism.{field}", str(degree), rule, f"Leave {field} out")


def attention_in_parts(request: LayoutRequest) -> Problem | None:
    attention = request.job.spec.model.attention
    if request.degrees.cp == 1 or attention == "sdpa":
        return None
    rule = "context parallelism of engine native works with sdpa only"
    return Problem("spec.model.attention", attention, rule, "Use sdpa, which uses a flash kernel on GPUs, or leave context out")


def zero_stage(request: LayoutRequest) -> Problem | None:
    if request.degrees.zero in (0, 3):
        return None
    rule = "engine native shards weights, gradients and optimizer state together (FSDP2), or nothing"
    way_out = "Use 3 to shard weights, gradients and optimizer state, or 0 to replicate them"
    return Problem("spec.parallelism.zeroStage", str(request.degrees.zero), rule, way_out)


def heads_over_context(request: LayoutRequest) -> Problem | None:
    """Attention runs with the heads split over the context-parallel ranks."""
    cp, tp, shape = request.degrees.cp, request.degrees.tp, request.shape
    if cp == 1 or shape is None or shape.heads % (cp * tp) == 0:
        return None
    rule = f"context x tensor ({cp} x {tp}) must divide the {shape.heads} attention heads"
    right = divisors(shape.heads // tp) if shape.heads % tp == 0 else (1,)
    return Problem("spec.parallelism.context", str(cp), rule, f"Use {listed(right)}")


def experts_over_tensor(request: LayoutRequest) -> Problem | None:
    """Whole experts are distributed over tensor-parallel ranks too."""
    tp, ep, shape = request.degrees.tp, request.degrees.ep, request.shape
    if tp == 1 or shape is None or shape.experts % ep or shape.experts % (tp * ep) == 0:
        return None
    rule = f"expert x tensor ({ep} x {tp}) must divide the {shape.experts} experts"
    return Problem("spec.parallelism.tensor", str(tp), rule, f"Use {listed(divisors(shape.experts // ep))}")


LIMITS: tuple[Refusal, ...] = (family_in_parts, attention_in_parts, zero_stage, heads_over_context, experts_over_tensor)
