"""A small config.json of each model family that only engine native trains, as benchmarks/parity.py and the tests run it. Plain data."""

from __future__ import annotations

from typing import Any

SMALL: dict[str, Any] = {
    "architectures": None,
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "pad_token_id": None,
}
WINDOWED = {"sliding_window": 8}
BOTH = ["sliding_attention", "full_attention"] * 2
GEMMA = WINDOWED | {"query_pre_attn_scalar": 16, "layer_types": BOTH, "tie_word_embeddings": True}
TIED = {"tie_word_embeddings": True}

ROUTED = {
    "n_routed_experts": 4,
    "n_shared_experts": 2,
    "moe_intermediate_size": 32,
    "num_experts_per_tok": 2,
    "first_k_dense_replace": 1,
}
LATENT = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
    "head_dim": 8,
}

FAMILY_CASES: dict[str, dict[str, Any]] = {
    "gemma": TIED,
    "gemma2": GEMMA,
    "gemma3_text": GEMMA | {"layer_types": ["sliding_attention"] * 3 + ["full_attention"], "final_logit_softcapping": 20.0},
    "vaultgemma": GEMMA,
    "phi": {"partial_rotary_factor": 0.5},
    "phi3": WINDOWED | {"partial_rotary_factor": 0.75},
    "olmo": {"clip_qkv": 0.5},
    "olmo2": {},
    "olmo3": WINDOWED,
    "granite": {"embedding_multiplier": 6.0, "residual_multiplier": 0.5, "attention_multiplier": 0.25, "logits_scaling": 2.0},
    "cohere": TIED | {"logit_scale": 0.25},
    "cohere2": TIED | WINDOWED | {"layer_types": BOTH},
    "glm": {"partial_rotary_factor": 0.5},
    "glm4": {"partial_rotary_factor": 0.5},
    "starcoder2": TIED | WINDOWED,
    "smollm3": TIED | {"no_rope_layers": [1, 1, 0, 1]},
    "gpt_neox": {"num_key_value_heads": 4},
    "helium": {},
    "ernie4_5": TIED | {"use_bias": True},
    "exaone4": WINDOWED | {"layer_types": BOTH},
    "seed_oss": {"attention_dropout": 0.0, "residual_dropout": 0.0},
    "hunyuan_v1_dense": {},
    "arcee": {},
    "ministral": WINDOWED | {"layer_types": BOTH},
    "ministral3": {},
    "nemotron": {"partial_rotary_factor": 0.5},
    "stablelm": {"use_qkv_bias": True},
    "jais2": {},
    "cwm": WINDOWED | {"layer_types": BOTH},
    "internlm3": {},
    "iquestcoder": {},
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2, "clip_qkv": 0.5},
    "glm4_moe": ROUTED | {"partial_rotary_factor": 0.5},
    "deepseek_v2": ROUTED | LATENT | {"q_lora_rank": None, "topk_method": "greedy"},
    "deepseek_v3": ROUTED | LATENT | {"q_lora_rank": 24, "n_group": 2, "topk_group": 1, "routed_scaling_factor": 1.5},
}


def config_of(family: str) -> dict[str, Any]:
    """The config.json."""
    return SMALL | {"model_type": family, "tie_word_embeddings": False} | FAMILY_CASES[family]
