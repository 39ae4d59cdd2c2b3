"""Refusals of models and layouts that engine megatron cannot train. The trainer checks them again in engines/megatron/settings.py."""

from __future__ import annotations

from llmtrain_operator.manifest.divisors import divisors, listed
from llmtrain_operator.manifest.problem import Problem
from llmtrain_operator.plan.layout.request import LayoutRequest, Refusal
from llmtrain_trainer.config.tables.families import TRAINED, trained_by

FAMILIES = trained_by("megatron")
"""Model types whose weights map to Megatron's GPTModel."""

NATIVE = "Use engine native"

STATIC_ROPE = ("default", "linear", "llama3")
"""RoPE types whose frequencies do not depend on the sequence length and whose output is not scaled."""


def on_gpus(request: LayoutRequest) -> Problem | None:
    if request.gpu is not None:
        return None
    return Problem(
        "spec.parallelism.engine", "megatron", "Megatron-core runs on CUDA GPUs only", "Set resources.gpusPerNode, or use engine native"
    )


def family(request: LayoutRequest) -> Problem | None:
    shape = request.shape
    if shape is None or shape.model_type in FAMILIES or shape.model_type not in TRAINED:
        return None
    rule = f"its model_type is {shape.model_type}, and engine megatron supports {listed(FAMILIES)}"
    return Problem("spec.model", request.job.spec.model.source or shape.model_type, rule, NATIVE)


def biases(request: LayoutRequest) -> Problem | None:
    shape = request.shape
    if shape is None or shape.out_bias == shape.mlp_bias:
        return None
    given = "attention_bias" if shape.out_bias else "mlp_bias"
    return _asked(request, f"{given} true", "Megatron has biases in all linear layers or in none")


def rotary(request: LayoutRequest) -> Problem | None:
    """Megatron's rotary embeddings are of a static type and cover the whole head."""
    if request.shape is None:
        return None
    traits = request.shape.traits
    if traits.rope in STATIC_ROPE and traits.partial_rotary == 1.0:
        return None
    kind = f"rope_type {traits.rope}" if traits.rope not in STATIC_ROPE else f"partial_rotary_factor {traits.partial_rotary:g}"
    return _asked(request, kind, f"engine megatron supports full rotary embeddings of type {listed(STATIC_ROPE)}")


def window(request: LayoutRequest) -> Problem | None:
    """Megatron's attention covers all previous tokens."""
    length, found = request.job.spec.training.sequence_length, request.shape.traits.window if request.shape else None
    if found is None or found >= length:
        return None
    rule = f"engine megatron has no sliding-window attention, and sequences of {length} tokens exceed the window"
    return _asked(request, f"sliding_window {found}", rule, f", or sequenceLength {found}" if found else "")


def activation(request: LayoutRequest) -> Problem | None:
    if request.shape is None or request.shape.traits.activation in ("", "silu"):
        return None
    return _asked(request, f"hidden_act {request.shape.traits.activation}", "engine megatron supports gated SiLU feed-forward layers only")


def router_loss(request: LayoutRequest) -> Problem | None:
    found = request.shape.traits.router_loss if request.shape and request.shape.experts else 0.0
    if not found:
        return None
    rule = f"config.json asks for a router loss (router_aux_loss_coef {found:g}), which Megatron does not compute as transformers does"
    return _asked(request, "output_router_logits true", rule)


def router_jitter(request: LayoutRequest) -> Problem | None:
    found = request.shape.traits.router_jitter if request.shape and request.shape.experts else 0.0
    if not found:
        return None
    return _asked(request, f"router_jitter_noise {found:g}", "engine megatron adds no noise to the input of its routers")


def vocabulary(request: LayoutRequest) -> Problem | None:
    """The tensor degree must divide the vocabulary."""
    tp, shape = request.degrees.tp, request.shape
    if shape is None or shape.vocab % tp == 0:
        return None
    right = [degree for degree in divisors(shape.kv_heads) if shape.vocab % degree == 0 and shape.ffn % degree == 0]
    rule = f"engine megatron splits the vocabulary ({shape.vocab}) into equal parts"
    return Problem("spec.parallelism.tensor", str(tp), rule, f"Use {listed(right)}, or engine native or deepspeed, which replicate it")


def _asked(request: LayoutRequest, found: str, rule: str, more: str = "") -> Problem:
    """A refusal of a value in config.json. `more`: another way out."""
    model = request.job.spec.model
    if model.config is not None:
        return Problem("spec.model.config", found, rule, NATIVE + more)
    return Problem("spec.model.source", str(model.source), f"its config.json says {found}: {rule}", NATIVE + more)


def mixed_layers(request: LayoutRequest) -> Problem | None:
    shape = request.shape
    if shape is None or not shape.experts or not shape.dense_layers:
        return None
    rule = "engine megatron trains MoE models only if every layer is an MoE layer"
    return Problem("spec.model", f"{len(shape.dense_layers)} dense layers in an MoE model", rule, NATIVE)


def zero_stage(request: LayoutRequest) -> Problem | None:
    if request.degrees.zero < 2:
        return None
    rule = "Megatron shards the optimizer state or nothing"
    return Problem("spec.parallelism.zeroStage", str(request.degrees.zero), rule, "Use 1, or 0; tensor and pipeline split the weights")


def schedule(request: LayoutRequest) -> Problem | None:
    if request.degrees.pp == 1 or request.degrees.schedule != "gpipe":
        return None
    return Problem(
        "spec.parallelism.schedule", "gpipe", "Megatron has schedules 1f1b and interleaved only", "Leave schedule out, or use engine native"
    )


def compiled(request: LayoutRequest) -> Problem | None:
    if not request.job.spec.training.compile:
        return None
    return Problem("spec.training.compile", "true", "engine megatron has its own fused kernels", "Leave compile out, or use engine native")


def attention(request: LayoutRequest) -> Problem | None:
    given = request.job.spec.model.attention
    if given == "sdpa":
        return None
    rule = "engine megatron uses the attention kernel of transformer-engine, or of torch if that is not installed"
    return Problem("spec.model.attention", given, rule, "Use sdpa")


def sequence_divides(request: LayoutRequest) -> Problem | None:
    """Sequence parallelism: norms run on parts of the sequence, split over the tensor-parallel ranks."""
    tp, cp, length = request.degrees.tp, request.degrees.cp, request.job.spec.training.sequence_length
    if tp == 1 or length % (tp * cp) == 0:
        return None
    rule = f"tensor x context ({tp * cp}) must divide it: Megatron splits the sequence over these ranks for its norms"
    return Problem("spec.training.sequenceLength", str(length), rule, f"Use {length // (tp * cp) * tp * cp or tp * cp}")


def heads_over_context(request: LayoutRequest) -> Problem | None:
    """context x tensor must divide the key-value heads."""
    tp, cp, shape = request.degrees.tp, request.degrees.cp, request.shape
    if cp == 1 or shape is None or shape.kv_heads % (tp * cp) == 0:
        return None
    rule = f"context x tensor ({tp * cp}) must divide the {shape.kv_heads} key-value heads, which engine megatron does not split"
    right = divisors(shape.kv_heads // tp) if shape.kv_heads % tp == 0 else [1]
    other = ", or use engine native" if shape.heads % (tp * cp) == 0 and request.job.spec.training.sequence_length % cp == 0 else ""
    return Problem("spec.parallelism.context", str(cp), rule, f"Use {listed(right)}{other}")


def expert_width(request: LayoutRequest) -> Problem | None:
    tp, shape = request.degrees.tp, request.shape
    if tp == 1 or shape is None or not shape.experts or shape.expert_ffn % tp == 0:
        return None
    rule = f"it must divide the feed-forward width of an expert ({shape.expert_ffn})"
    return Problem("spec.parallelism.tensor", str(tp), rule, "Use a degree that does")


LIMITS: tuple[Refusal, ...] = (
    on_gpus,
    family,
    biases,
    rotary,
    window,
    activation,
    router_loss,
    router_jitter,
    vocabulary,
    mixed_layers,
    zero_stage,
    schedule,
    compiled,
    attention,
    sequence_divides,
    heads_over_context,
    expert_width,
)
