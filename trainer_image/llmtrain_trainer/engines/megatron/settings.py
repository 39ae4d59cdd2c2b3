"""A model's Hugging Face config and a TrainerConfig as Megatron's TransformerConfig. Pure; called by engine.py.

Also says what Megatron cannot express, before anything is built.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from megatron.core.transformer.transformer_config import TransformerConfig
from torch.nn.functional import silu
from transformers import PreTrainedConfig

from llmtrain_trainer.config import Mesh, TrainerConfig
from llmtrain_trainer.config.tables.engines import engines_with
from llmtrain_trainer.config.tables.families import family_named
from llmtrain_trainer.engines.megatron.names import FAMILIES

STATIC_ROPE = ("default", "linear", "llama3")
"""Rotary embeddings whose frequencies do not depend on the length and whose output is not scaled."""


def transformer_config(shape: PreTrainedConfig, config: TrainerConfig, *, transformer_engine: bool) -> TransformerConfig:
    """Everything Megatron asks of a model and its layout. Raises ValueError with every problem at once where it cannot be expressed."""
    if problems := list(problems_of(shape, config)):
        raise ValueError("; ".join(problems))
    bf16 = config.training.precision == "bf16"
    return TransformerConfig(
        **_network(shape),
        **_experts(shape, grouped=transformer_engine),
        **_layout(config.mesh),
        **_recomputation(config),
        params_dtype=torch.bfloat16 if bf16 else torch.float32,
        pipeline_dtype=torch.bfloat16 if bf16 else torch.float32,
        bf16=bf16,
        init_method=leave_empty,
        output_layer_init_method=leave_empty,
        embedding_init_method=leave_empty,
        calculate_per_token_loss=True,
        deallocate_pipeline_outputs=config.device == "cuda",  # gloo still reads what it sends
        bias_dropout_fusion=False,  # nothing to fuse: these models have neither that bias nor that dropout
        bias_activation_fusion=True,
        masked_softmax_fusion=False,
        persist_layer_norm=False,
        gradient_accumulation_fusion=False,
        apply_rope_fusion=transformer_engine,
        cuda_graph_scope=[],  # what Megatron makes of its own default, with a warning
    )


def leave_empty(weight: torch.Tensor) -> torch.Tensor:
    """No initialisation: every weight is read or drawn by its Hugging Face name."""
    return weight


def _network(shape: PreTrainedConfig) -> dict[str, Any]:
    bias = _linear_bias(shape)
    return {
        "num_layers": shape.num_hidden_layers,
        "hidden_size": shape.hidden_size,
        "ffn_hidden_size": shape.intermediate_size,
        "num_attention_heads": shape.num_attention_heads,
        "num_query_groups": shape.num_key_value_heads,
        "kv_channels": head_size(shape),
        "normalization": "RMSNorm",
        "layernorm_epsilon": shape.rms_norm_eps,
        "gated_linear_unit": True,
        "activation_func": silu,
        "add_bias_linear": bias,
        "add_qkv_bias": bias or family_named(shape.model_type).qkv_bias is True,
        "qk_layernorm": family_named(shape.model_type).qk_norm == "head",
        "hidden_dropout": 0.0,
        "attention_dropout": float(getattr(shape, "attention_dropout", 0.0)),
    }


def head_size(shape: PreTrainedConfig) -> int:
    """Width of one attention head."""
    return int(getattr(shape, "head_dim", None) or shape.hidden_size // shape.num_attention_heads)


def expert_count(shape: PreTrainedConfig) -> int:
    """0 for a dense model."""
    if not family_named(shape.model_type).mixture:
        return 0
    return int(getattr(shape, "num_local_experts", None) or getattr(shape, "num_experts", None) or 0)


def _experts(shape: PreTrainedConfig, *, grouped: bool) -> dict[str, Any]:
    """Dropless routing without an auxiliary loss, as transformers trains these models unless asked for it."""
    if not (count := expert_count(shape)):
        return {}
    normalised = family_named(shape.model_type).router_normalised is True or shape.norm_topk_prob
    return {
        "num_moe_experts": count,
        "moe_ffn_hidden_size": getattr(shape, "moe_intermediate_size", None) or shape.intermediate_size,
        "moe_router_topk": shape.num_experts_per_tok,
        "moe_router_pre_softmax": not normalised,  # softmax over the chosen alone is softmax over all, normalised to the chosen
        "moe_router_load_balancing_type": "none",
        "moe_aux_loss_coeff": 0.0,
        "moe_router_dtype": "fp32",
        "moe_token_dispatcher_type": "alltoall",
        "moe_grouped_gemm": grouped,
    }


def _layout(mesh: Mesh) -> dict[str, Any]:
    virtual = len(mesh.stages) // mesh.pp
    return {
        "tensor_model_parallel_size": mesh.tp,
        "pipeline_model_parallel_size": mesh.pp,
        "virtual_pipeline_model_parallel_size": virtual if virtual > 1 else None,
        "pipeline_model_parallel_layout": stage_layout(mesh) if mesh.pp > 1 else None,
        # In one batch, activations and gradients between two stages that are both neighbours would be taken for one another.
        "overlap_p2p_comm": virtual > 1,
        "batch_p2p_comm": virtual == 1,
        "context_parallel_size": mesh.cp,
        "expert_model_parallel_size": mesh.ep,
        "sequence_parallel": mesh.tp > 1,
    }


def stage_layout(mesh: Mesh) -> list[list[str]]:
    """What each stage holds, in model order: Megatron gives stage i to pipeline rank i mod pp, as mesh.stages means it."""
    stages = [["decoder"] * (end - begin) for begin, end in mesh.stages]
    stages[0].insert(0, "embedding")
    stages[-1].append("loss")
    return stages


def _recomputation(config: TrainerConfig) -> dict[str, Any]:
    if config.training.activation_checkpointing == "none":
        return {}
    return {"recompute_granularity": "full", "recompute_method": "uniform", "recompute_num_layers": 1}


def _linear_bias(shape: PreTrainedConfig) -> bool:
    """attention_bias, where the family reads it."""
    return family_named(shape.model_type).qkv_bias == "attention_bias" and bool(shape.attention_bias)


def problems_of(shape: PreTrainedConfig, config: TrainerConfig) -> Iterator[str]:
    """Each as field, value, rule, way out."""
    if shape.model_type not in FAMILIES:
        yield _problem("model_type", shape.model_type, f"the megatron engine maps {', '.join(sorted(FAMILIES))}", "use engine native")
        return
    yield from _network_problems(shape, config.training.sequence_length)
    yield from _run_problems(config)
    mesh = config.mesh
    if shape.vocab_size % mesh.tp:
        way_out = "choose a degree that does, or use engine native or deepspeed"
        yield _problem("model.vocab_size", shape.vocab_size, f"tensor ({mesh.tp}) must divide it", way_out)
    splits = {"num_attention_heads": mesh.tp * mesh.cp, "num_key_value_heads": mesh.tp * mesh.cp}
    for field, degree in splits.items():
        if (value := getattr(shape, field)) % degree:
            yield _problem(f"model.{field}", value, f"tensor x context ({degree}) must divide it", "choose degrees that do")
    if mesh.ep > 1 and (expert_count(shape) % mesh.ep or not expert_count(shape)):
        yield _problem("mesh.ep", mesh.ep, f"it must divide the {expert_count(shape)} experts", "choose a degree that does")


def _network_problems(shape: PreTrainedConfig, length: int) -> Iterator[str]:
    native = "use engine native"
    rope: dict[str, Any] = shape.rope_parameters
    family = family_named(shape.model_type)
    window = None if family.windowed == "never" else getattr(shape, "sliding_window", None)
    if rope["rope_type"] not in STATIC_ROPE or rope.get("partial_rotary_factor", 1.0) != 1.0:
        yield _problem("model.rope_parameters", rope, f"the megatron engine has whole {', '.join(STATIC_ROPE)} rotary embeddings", native)
    if window is not None and window < length:
        yield _problem("model.sliding_window", window, f"the sequences of {length} tokens must fit into it", f"{native}, or shorter ones")
    if shape.hidden_act != "silu":
        yield _problem("model.hidden_act", shape.hidden_act, "the megatron engine has gated silu networks", native)
    if _linear_bias(shape) != (family.mlp_bias == "mlp_bias" and bool(shape.mlp_bias)):
        given = "attention_bias" if _linear_bias(shape) else "mlp_bias"
        yield _problem(f"model.{given}", True, "Megatron gives a bias to all linear layers or to none", native)
    if family.router_jitter and shape.router_jitter_noise:
        yield _problem("model.router_jitter_noise", shape.router_jitter_noise, "the megatron engine adds no noise before routers", native)
    if expert_count(shape) and shape.output_router_logits and shape.router_aux_loss_coef:
        yield _problem("model.output_router_logits", True, "the megatron engine does not balance experts as transformers does", native)
    if family.dense_layers and (shape.mlp_only_layers or shape.decoder_sparse_step != 1):
        yield _problem("model.mlp_only_layers", shape.mlp_only_layers, "every layer must be a mixture", native)


def _run_problems(config: TrainerConfig) -> Iterator[str]:
    mesh, training = config.mesh, config.training
    if config.peft is not None and config.engine not in (able := engines_with(config.peft.method)):
        yield _problem("peft.method", config.peft.method, "the megatron engine trains all weights", f"use engine {' or '.join(able)}")
    if mesh.zero_stage > 1:
        yield _problem("mesh.zeroStage", mesh.zero_stage, "Megatron shards the optimizer states or nothing", "use 1 or 0")
    if mesh.schedule == "gpipe" and mesh.pp > 1:
        yield _problem("mesh.schedule", mesh.schedule, "Megatron has 1f1b and interleaved", "use one of them")
    if training.compile:
        yield _problem("training.compile", True, "Megatron's layers are not compiled as a whole", "leave compile out")
    if config.model.attention != "sdpa":
        yield _problem("model.attention", config.model.attention, "the megatron engine picks its kernel itself", "use sdpa")
    if mesh.tp > 1 and training.sequence_length % (mesh.tp * mesh.cp):
        rule = f"tensor x context ({mesh.tp * mesh.cp}) must divide it, since norms work on parts of the sequence"
        yield _problem("training.sequenceLength", training.sequence_length, rule, "choose another length")


def _problem(field: str, value: object, rule: str, way_out: str) -> str:
    return f"{field} is {value}, but {rule}: {way_out}"
