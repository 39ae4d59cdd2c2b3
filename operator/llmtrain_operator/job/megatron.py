"""What engine megatron cannot do, as refusals. Asked after the others: see refusals.py.

The trainer refuses the same again, and what only a config.json shows: engines/megatron/settings.py.
"""

from __future__ import annotations

from llmtrain_operator.job.case import Case, Refusal
from llmtrain_operator.job.divisors import listed
from llmtrain_operator.job.problem import Problem

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "mixtral", "qwen3_moe")
"""Models whose weights have a place in Megatron's GPTModel: the tables of engines/megatron/names.py."""

NATIVE = "Use engine native"


def on_gpus(case: Case) -> Problem | None:
    if case.gpu is not None:
        return None
    return Problem(
        "spec.parallelism.engine", "megatron", "Megatron-core runs on CUDA GPUs only", "Set resources.gpusPerNode, or use engine native"
    )


def family(case: Case) -> Problem | None:
    shape = case.shape
    if shape is None or shape.model_type in FAMILIES:
        return None
    rule = f"its model_type is {shape.model_type}, and engine megatron knows {listed(FAMILIES)}"
    return Problem("spec.model", case.job.spec.model.source or shape.model_type, rule, NATIVE)


def biases(case: Case) -> Problem | None:
    shape = case.shape
    if shape is None or not shape.out_bias or shape.mlp_bias:
        return None
    return Problem("spec.model", "attention_bias", "Megatron gives a bias to all linear layers or to none", NATIVE)


def mixed_layers(case: Case) -> Problem | None:
    shape = case.shape
    if shape is None or not shape.experts or not shape.dense_layers:
        return None
    rule = "engine megatron trains mixtures whose every layer is one"
    return Problem("spec.model", f"{len(shape.dense_layers)} dense layers in a mixture", rule, NATIVE)


def adapters(case: Case) -> Problem | None:
    peft = case.job.spec.peft
    if peft is None:
        return None
    rule = "engine megatron trains all weights: its layers have no adapters"
    return Problem("spec.peft.method", peft.method, rule, "Leave peft out, or use engine native or deepspeed")


def quantization(case: Case) -> Problem | None:
    if not (found := case.job.spec.quantization):
        return None
    return Problem("spec.quantization", f"{found.bits} bits", "engine megatron trains all weights unquantized", "Leave quantization out")


def zero_stage(case: Case) -> Problem | None:
    if case.degrees.zero < 2:
        return None
    rule = "Megatron's replicas share out the optimizer or nothing"
    return Problem("spec.parallelism.zeroStage", str(case.degrees.zero), rule, "Use 1, or 0; tensor and pipeline share out weights")


def schedule(case: Case) -> Problem | None:
    if case.degrees.pp == 1 or case.degrees.schedule != "gpipe":
        return None
    return Problem("spec.parallelism.schedule", "gpipe", "Megatron has 1f1b and interleaved", "Leave schedule out, or use engine native")


def compiled(case: Case) -> Problem | None:
    if not case.job.spec.training.compile:
        return None
    return Problem(
        "spec.training.compile", "true", "engine megatron brings its own fused kernels", "Leave compile out, or use engine native"
    )


def attention(case: Case) -> Problem | None:
    given = case.job.spec.model.attention
    if given == "sdpa":
        return None
    rule = "engine megatron takes its kernel from transformer-engine, or from torch where that is not installed"
    return Problem("spec.model.attention", given, rule, "Use sdpa")


def sequence_divides(case: Case) -> Problem | None:
    """Norms work on parts of the sequence where tensor parallelism splits the rest."""
    tp, cp, length = case.degrees.tp, case.degrees.cp, case.job.spec.training.sequence_length
    if tp == 1 or length % (tp * cp) == 0:
        return None
    rule = f"tensor x context ({tp * cp}) must divide it: Megatron's norms work on parts of the sequence"
    return Problem("spec.training.sequenceLength", str(length), rule, f"Use {length // (tp * cp) * tp * cp or tp * cp}")


def heads_over_context(case: Case) -> Problem | None:
    tp, cp, shape = case.degrees.tp, case.degrees.cp, case.shape
    if cp == 1 or shape is None or shape.kv_heads % (tp * cp) == 0:
        return None
    rule = f"context x tensor ({tp * cp}) must divide the {shape.kv_heads} key-value heads, which engine megatron sends over ranks whole"
    return Problem("spec.parallelism.context", str(cp), rule, "Use a smaller degree, or use engine native")


def expert_width(case: Case) -> Problem | None:
    tp, shape = case.degrees.tp, case.shape
    if tp == 1 or shape is None or not shape.experts or shape.expert_ffn % tp == 0:
        return None
    rule = f"it must divide the width of an expert ({shape.expert_ffn})"
    return Problem("spec.parallelism.tensor", str(tp), rule, "Use a degree that does")


LIMITS: tuple[Refusal, ...] = (
    on_gpus,
    family,
    biases,
    mixed_layers,
    adapters,
    quantization,
    zero_stage,
    schedule,
    compiled,
    attention,
    sequence_divides,
    heads_over_context,
    expert_width,
)


def _with_megatron(refusal: Refusal) -> Refusal:
    return lambda case: refusal(case) if case.degrees.engine == "megatron" else None


MEGATRON: tuple[Refusal, ...] = tuple(_with_megatron(limit) for limit in LIMITS)
