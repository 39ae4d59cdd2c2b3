"""What this version can train, and refusals of everything else that a manifest can ask for. layout_checks.py runs them first."""

from __future__ import annotations

from llmtrain_operator.manifest.problem import Problem
from llmtrain_operator.plan.layout.request import Case, Refusal
from llmtrain_operator.plan.model.families import untrained
from llmtrain_trainer.config.tables.families import TRAINED


def quantized_weights(case: Case) -> Problem | None:
    """Quantized weights cannot be read without their scales."""
    model, found = case.job.spec.model, case.shape and case.shape.traits.quantized
    if not found or found.readable or model.source is None or model.init == "random":
        return None
    return Problem("spec.model.source", model.source, *found.refusal)


def family(case: Case) -> Problem | None:
    if not case.shape or case.shape.model_type in TRAINED:
        return None
    source = case.job.spec.model.source
    return untrained(case.shape.model_type, "spec.model.config" if source is None else f"spec.model.source {source}: config.json")


def flash_attention(case: Case) -> Problem | None:
    if case.job.spec.model.attention != "flash" or case.job.spec.resources.gpus_per_node:
        return None
    return Problem("spec.model.attention", "flash", "flash attention runs on GPUs only", "Use sdpa, or set resources.gpusPerNode")


def bf16(case: Case) -> Problem | None:
    gpu, precision = case.gpu, case.job.spec.training.precision
    if precision != "bf16" or gpu is None or gpu.bf16_flops is not None:
        return None
    return Problem(
        "spec.training.precision", precision, f"{gpu.name} has no bfloat16 units", "Use fp32, or a GPU of the Ampere generation or later"
    )


AVAILABLE: tuple[Refusal, ...] = (
    quantized_weights,
    family,
    flash_attention,
    bf16,
)
