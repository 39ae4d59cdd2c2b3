"""What this version trains, and the refusal of everything else that a manifest can say. Asked first: see refusals.py."""

from __future__ import annotations

from llmtrain_operator.job.case import Case, Refusal
from llmtrain_operator.job.divisors import listed
from llmtrain_operator.job.problem import Problem

ENGINES = ("native", "deepspeed", "megatron")
TASKS = ("pretrain", "sft")
PEFT_METHODS = ("lora", "rslora")
FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gpt2", "mixtral", "qwen2_moe", "qwen3_moe")
"""Decoders whose stages and tensor plan the engines know."""

OWN_LAYERS = ("native", "deepspeed")
"""Engines that cut Hugging Face's model themselves."""

WITHOUT_TENSOR = ("gpt2",)
"""Of those, the ones without a tensor-parallel plan."""


def engine(case: Case) -> Problem | None:
    if case.degrees.engine in ENGINES:
        return None
    return Problem("spec.parallelism.engine", case.degrees.engine, f"this version trains with {listed(ENGINES)}", "Write engine: native")


def task(case: Case) -> Problem | None:
    if case.job.spec.task in TASKS:
        return None
    return Problem("spec.task", case.job.spec.task, f"this version does {listed(TASKS)}", f"Write task: {listed(TASKS)}")


def peft_method(case: Case) -> Problem | None:
    peft = case.job.spec.peft
    if not peft or peft.method in PEFT_METHODS:
        return None
    return Problem("spec.peft.method", peft.method, f"this version has {listed(PEFT_METHODS)}", f"Write method: {listed(PEFT_METHODS)}")


def quantization(case: Case) -> Problem | None:
    if not (found := case.job.spec.quantization) or case.degrees.engine not in OWN_LAYERS:
        return None
    rule = f"engine {case.degrees.engine} keeps base weights unquantized"
    return Problem(
        "spec.quantization", f"{found.bits} bits", rule, "Leave quantization out; zeroStage: 3 shares the base weights out over dp"
    )


def quantized_weights(case: Case) -> Problem | None:
    """Weights of few bits mean nothing without their scales."""
    model, found = case.job.spec.model, case.shape and case.shape.traits.quantized
    if not found or found.readable or model.source is None or model.init == "random":
        return None
    return Problem("spec.model.source", model.source, *found.refusal)


def family(case: Case) -> Problem | None:
    shape, engine = case.shape, case.degrees.engine
    if not shape or engine not in OWN_LAYERS or shape.model_type in FAMILIES:
        return None
    way_out = f"Use a model of type {listed(FAMILIES)}"
    if case.job.spec.model.config:
        return Problem("spec.model.config.model_type", shape.model_type, f"engine {engine} trains the decoders it knows", way_out)
    rule = f"its model_type is {shape.model_type}, and engine {engine} trains the decoders it knows"
    return Problem("spec.model.source", str(case.job.spec.model.source), rule, way_out)


def context_attention(case: Case) -> Problem | None:
    attention = case.job.spec.model.attention
    if case.degrees.cp == 1 or case.degrees.engine != "native" or attention == "sdpa":
        return None
    rule = "the native engine cuts sequences with sdpa only"
    return Problem("spec.model.attention", attention, rule, "Use sdpa, which picks a flash kernel on a GPU by itself, or leave context out")


def zero_stage(case: Case) -> Problem | None:
    if case.degrees.engine != "native" or case.degrees.zero in (0, 3):
        return None
    rule = "the native engine shards by FSDP2, which shares out all or nothing"
    return Problem(
        "spec.parallelism.zeroStage", str(case.degrees.zero), rule, "Use 3 to share weights, gradients and optimizer, or 0 to share nothing"
    )


def loss_spike(case: Case) -> Problem | None:
    action = case.job.spec.resilience.loss_spike.action
    if action == "none":
        return None
    return Problem("spec.resilience.lossSpike.action", action, "this version does not react to loss spikes", "Write action: none")


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
    engine,
    task,
    peft_method,
    quantization,
    quantized_weights,
    family,
    context_attention,
    zero_stage,
    loss_spike,
    flash_attention,
    bf16,
)
