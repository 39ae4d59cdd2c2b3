"""Refusals of layouts that engine accelerate cannot run: it knows replicas alone."""

from __future__ import annotations

from llmtrain_operator.manifest.problem import Problem
from llmtrain_operator.plan.layout.request import LayoutRequest, Refusal
from llmtrain_trainer.config.tables.families import TRAINED


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


LIMITS: tuple[Refusal, ...] = (replicas_alone, zero_stage, compiled)
