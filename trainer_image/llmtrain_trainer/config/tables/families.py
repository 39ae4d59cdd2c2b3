"""The model families, once: which keys of config.json say what, how transformers names their parts, and which engines train them.

A family more is a row of FAMILIES here; family.py says what a row may hold. Stages and tensor-parallel plans are those of transformers
where a row gives none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmtrain_trainer.config.tables.engines import EngineName
from llmtrain_trainer.config.tables.family import STANDARD, ExpertNames, Family, LinearNames, StageModuleNames
from llmtrain_trainer.config.tables.other_families import OTHER_FAMILIES

PHI3: LinearNames = (("qkv_proj",), "o_proj", ("gate_up_proj",), "down_proj")
GPT2: LinearNames = (("c_attn",), "c_proj", ("c_fc",), "c_proj")
PHI: LinearNames = (("q_proj", "k_proj", "v_proj"), "dense", ("fc1",), "fc2")
GLM: LinearNames = (("q_proj", "k_proj", "v_proj"), "o_proj", ("gate_up_proj",), "down_proj")
STARCODER: LinearNames = (("q_proj", "k_proj", "v_proj"), "o_proj", ("c_fc",), "c_proj")
UP_DOWN: LinearNames = (("q_proj", "k_proj", "v_proj"), "o_proj", ("up_proj",), "down_proj")
NEOX: LinearNames = (("query_key_value",), "dense", ("dense_h_to_4h",), "dense_4h_to_h")
T5: LinearNames = (("q", "k", "v"), "o", ("wi",), "wo")

GPT2_KEYS = {
    "layers": "n_layer",
    "hidden": "n_embd",
    "heads": "n_head",
    "ffn": "n_inner",
    "vocab": "vocab_size",
    "positions": "n_positions",
}
T5_KEYS = STANDARD | {"layers": "num_layers", "hidden": "d_model", "heads": "num_heads", "ffn": "d_ff", "positions": "n_positions"}
T5_ALIASES = {"hidden_size": "d_model", "num_attention_heads": "num_heads", "num_hidden_layers": "num_layers", "head_dim": "d_kv"}
GPT2_ALIASES = {
    "num_hidden_layers": "n_layer",
    "hidden_size": "n_embd",
    "num_attention_heads": "n_head",
    "max_position_embeddings": "n_positions",
}


EVERY: tuple[EngineName, ...] = ("native", "deepspeed", "megatron", "accelerate")
NATIVE: tuple[EngineName, ...] = ("native", "accelerate")
OWN_LAYERS: tuple[EngineName, ...] = ("native", "deepspeed", "accelerate")
"""Engines that run the modules of transformers."""

MIXTRAL = {"experts": "num_local_experts", "width": "intermediate_size"}
QWEN_MOE = {"experts": "num_experts", "width": "moe_intermediate_size"}
MIXTRAL_NAMES = ExpertNames("block_sparse_moe", ("w1", "w3"), "w2")
QWEN_NAMES = ExpertNames("mlp", ("gate_proj", "up_proj"), "down_proj")
BIASED: dict[str, Any] = {"qkv_bias": "attention_bias", "out_bias": "attention_bias"}
QWEN: dict[str, Any] = {"windowed": "asked", "window": 4096}
QWEN_MIXTURE: dict[str, Any] = QWEN | {"dense_layers": True, "router_normalised": "norm_topk_prob", "published": QWEN_NAMES}
BOTH_WAYS = {"use_bidirectional_attention": "tokens that see later ones are no causal language model"}
GEMMA: dict[str, Any] = {"tied": True, "head_dim": 256, "refused": BOTH_WAYS} | BIASED
CAPPED: dict[str, Any] = GEMMA | {"kv_heads": 4, "windowed": "always", "window": 4096, "sdpa": False}
USE_BIAS: dict[str, Any] = dict.fromkeys(("qkv_bias", "out_bias", "mlp_bias"), "use_bias")
ALL_BIASED: dict[str, Any] = BIASED | {"mlp_bias": "mlp_bias"}
LAYER_NORMS: dict[str, Any] = {"norm_bias": True, "gated": False}
GLM_ROW: dict[str, Any] = {
    "linear": GLM,
    "kv_heads": 2,
    "head_dim": 128,
    "qkv_bias": "attention_bias",
    "on_by_default": ("attention_bias",),
    "partial_rotary": 0.5,
    "gathered": ("network",),
}
OLMO: dict[str, Any] = BIASED | {"qk_norm": "full", "gathered": ("attention",)}
HIDDEN_SCALED: dict[str, Any] = ALL_BIASED | {"between": {"embedding_multiplier": 1.0}}
COLUMNS_AND_ROWS: Mapping[str, str] = dict.fromkeys(
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj"), "colwise"
) | dict.fromkeys(("self_attn.o_proj", "mlp.down_proj"), "rowwise")
WHOLE_HEADS = dict.fromkeys(("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), "colwise_gather_output") | {
    "self_attn.o_proj": "rowwise_split_input"
}
"""Of attention that works with the numbers of heads of config.json."""

UNPLANNED: dict[str, Any] = {"parts": StageModuleNames(("embed_tokens",), "layers", ("norm",)), "plan": COLUMNS_AND_ROWS}
"""StageModuleNames and plan of a Llama, for families that are built as it is and have none in transformers."""

NEXT_TOKENS = {"num_local_experts": "n_routed_experts", "num_mtp_layers": "num_nextn_predict_layers"}
SHARED_EXPERTS: dict[str, Any] = {
    "mixture": {
        "experts": "n_routed_experts",
        "width": "moe_intermediate_size",
        "shared_count": "n_shared_experts",
        "first_dense": "first_k_dense_replace",
    },
    "published": QWEN_NAMES,
    "dense_named_as_experts": True,
}
LATENT: dict[str, Any] = SHARED_EXPERTS | {"latent": True, "out_bias": "attention_bias"}
LATENT_PLAN: Mapping[str, str] = (
    dict.fromkeys(("self_attn.q_proj", "self_attn.q_b_proj", "self_attn.kv_b_proj"), "colwise")
    | {"self_attn.kv_a_proj_with_mqa": "mla_kv_a_proj", "self_attn.o_proj": "rowwise", "mlp.experts": "moe_tp_experts"}
    | dict.fromkeys(("mlp.gate_proj", "mlp.up_proj", "mlp.shared_experts.gate_proj", "mlp.shared_experts.up_proj"), "colwise")
    | dict.fromkeys(("mlp.down_proj", "mlp.shared_experts.down_proj"), "rowwise")
)
"""That of DeepSeek V2, for families of its attention whose plan leaves attention whole."""

FAMILIES: Mapping[str, Family] = {
    "llama": Family(**BIASED, mlp_bias="mlp_bias", parts_shown=True, engines=EVERY),
    "mistral": Family(kv_heads=8, windowed="always", window=4096, parts_shown=True, engines=EVERY),
    "qwen2": Family(kv_heads=32, qkv_bias=True, **QWEN, parts_shown=True, engines=EVERY),
    "qwen3": Family(kv_heads=32, head_dim=128, **BIASED, qk_norm="head", **QWEN, parts_shown=True, engines=EVERY),
    "gpt2": Family(
        keys=GPT2_KEYS,
        linear=GPT2,
        aliases=GPT2_ALIASES,
        tied=True,
        gated=False,
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        norm_bias=True,
        learned_positions=True,
        parts=StageModuleNames(("wte", "wpe", "drop"), "h", ("ln_f",)),
        transposed=True,
        tensor=False,
        parts_shown=True,
        engines=OWN_LAYERS,
    ),
    "mixtral": Family(
        kv_heads=8,
        aliases={"num_experts": "num_local_experts"},
        windowed="always",
        mixture=MIXTRAL,
        router_jitter=True,
        published=MIXTRAL_NAMES,
        parts_shown=True,
        engines=EVERY,
    ),
    "qwen2_moe": Family(
        kv_heads=16,
        qkv_bias="qkv_bias",
        on_by_default=("qkv_bias",),
        mixture=QWEN_MOE | {"shared": "shared_expert_intermediate_size"},
        **QWEN_MIXTURE,
        parts_shown=True,
        engines=OWN_LAYERS,
    ),
    "qwen3_moe": Family(
        kv_heads=4,
        aliases={"num_local_experts": "num_experts"},
        **BIASED,
        qk_norm="head",
        mixture=QWEN_MOE,
        **QWEN_MIXTURE,
        dense_named_as_experts=True,
        parts_shown=True,
        engines=EVERY,
    ),
    "gemma": Family(kv_heads=16, **GEMMA, engines=NATIVE),
    "gemma2": Family(norms=4, **CAPPED, engines=NATIVE),
    "gemma3_text": Family(kv_heads=4, norms=4, qk_norm="head", windowed="always", window=4096, **GEMMA, engines=NATIVE),
    "vaultgemma": Family(**CAPPED, engines=NATIVE),
    "phi": Family(
        linear=PHI,
        **LAYER_NORMS,
        norms=1,
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        head_bias=True,
        partial_rotary=0.5,
        refused={"qk_layernorm": "norms of queries and keys with biases are not known of this family"},
        engines=NATIVE,
    ),
    "phi3": Family(linear=PHI3, windowed="always", gathered=("attention", "network"), engines=NATIVE),
    "olmo": Family(norm_weight=False, **BIASED, in_place="clip_qkv", engines=NATIVE),
    "olmo2": Family(**OLMO, engines=NATIVE),
    "olmo3": Family(**OLMO, windowed="always", window=4096, engines=NATIVE),
    "granite": Family(**HIDDEN_SCALED, engines=NATIVE),
    "cohere": Family(tied=True, norms=1, **BIASED, qk_norm="full", qk_norm_asked="use_qk_norm", engines=NATIVE),
    "cohere2": Family(tied=True, norms=1, **BIASED, windowed="always", window=4096, engines=NATIVE),
    "glm": Family(**GLM_ROW, engines=NATIVE),
    "glm4": Family(norms=4, **GLM_ROW, engines=NATIVE),
    "starcoder2": Family(
        linear=STARCODER,
        tied=True,
        kv_heads=2,
        **LAYER_NORMS,
        **USE_BIAS,
        on_by_default=("use_bias",),
        windowed="always",
        between={"embedding_dropout": 0.0},
        engines=NATIVE,
    ),
    "smollm3": Family(tied=True, kv_heads=4, **ALL_BIASED, windowed="asked", engines=NATIVE),
    "gpt_neox": Family(
        linear=NEOX,
        **LAYER_NORMS,
        **BIASED,
        on_by_default=("attention_bias",),
        mlp_bias=True,
        partial_rotary=0.25,
        renamed={"lm_head": "embed_out"},
        engines=NATIVE,
    ),
    "helium": Family(kv_heads=20, head_dim=128, qkv_bias="attention_bias", mlp_bias="mlp_bias", engines=NATIVE),
    "ernie4_5": Family(tied=True, kv_heads=2, head_dim=128, **USE_BIAS, engines=NATIVE),
    "exaone4": Family(kv_heads=32, qk_norm="head", windowed="always", window=4096, engines=NATIVE),
    "seed_oss": Family(
        kv_heads=8,
        head_dim=128,
        qkv_bias="attention_bias",
        out_bias="attention_out_bias",
        mlp_bias="mlp_bias",
        on_by_default=("attention_bias",),
        engines=NATIVE,
    ),
    "hunyuan_v1_dense": Family(
        **BIASED,
        qk_norm="head",
        parts=UNPLANNED["parts"],
        plan=dict(COLUMNS_AND_ROWS)
        | dict.fromkeys(("self_attn.query_layernorm", "self_attn.key_layernorm"), "replicated_with_grad_allreduce"),
        engines=NATIVE,
    ),
    "arcee": Family(linear=UP_DOWN, gated=False, head_dim=80, **ALL_BIASED, engines=NATIVE),
    "ministral": Family(kv_heads=8, windowed="always", window=4096, engines=NATIVE),
    "ministral3": Family(kv_heads=8, head_dim=128, windowed="always", engines=NATIVE),
    "nemotron": Family(
        linear=UP_DOWN, **LAYER_NORMS, head_dim=128, **ALL_BIASED, partial_rotary=0.5, parts=UNPLANNED["parts"], engines=NATIVE
    ),
    "stablelm": Family(
        kv_heads=32,
        norm_bias=True,
        norms_otherwise=("use_parallel_residual", False, 1),
        qkv_bias="use_qkv_bias",
        qk_norm="full",
        qk_norm_asked="qk_layernorm",
        partial_rotary=0.25,
        parts=UNPLANNED["parts"],
        plan=dict(COLUMNS_AND_ROWS) | WHOLE_HEADS,
        gathered=("attention",),
        engines=NATIVE,
    ),
    "jais2": Family(
        linear=UP_DOWN, **LAYER_NORMS, head_dim=128, **ALL_BIASED, on_by_default=("attention_bias", "mlp_bias"), engines=NATIVE
    ),
    "cwm": Family(kv_heads=8, head_dim=128, mlp_bias="mlp_bias", windowed="always", window=8192, engines=NATIVE),
    "internlm3": Family(kv_heads=2, head_dim=128, aliases={"qkv_bias": "attention_bias", "bias": "mlp_bias"}, **ALL_BIASED, engines=NATIVE),
    "iquestcoder": Family(kv_heads=8, head_dim=128, **ALL_BIASED, engines=NATIVE),
    "olmoe": Family(
        **OLMO,
        aliases={"num_local_experts": "num_experts"},
        in_place="clip_qkv",
        mixture={"experts": "num_experts", "width": "intermediate_size"},
        router_normalised="norm_topk_prob",
        published=QWEN_NAMES,
        parts=UNPLANNED["parts"],
        engines=NATIVE,
    ),
    "glm4_moe": Family(
        kv_heads=8,
        uneven=True,
        qkv_bias="attention_bias",
        partial_rotary=0.5,
        qk_norm="head",
        qk_norm_asked="use_qk_norm",
        aliases=NEXT_TOKENS,
        **SHARED_EXPERTS,
        engines=NATIVE,
    ),
    "deepseek_v2": Family(aliases={"num_experts": "n_routed_experts"}, **LATENT, engines=NATIVE),
    "deepseek_v3": Family(aliases=NEXT_TOKENS, **LATENT, plan=LATENT_PLAN, engines=NATIVE),
    "t5": Family(keys=T5_KEYS, linear=T5, aliases=T5_ALIASES, tied=True, gated=False),
    "mt5": Family(keys=T5_KEYS, linear=T5, aliases=T5_ALIASES, tied=True),
}

NO_CLASSIFIER: tuple[str, ...] = (
    *("cohere", "cohere2", "cwm", "ernie4_5", "glm4_moe", "granite", "internlm3", "iquestcoder", "jais2", "olmoe", "vaultgemma"),
)
"""Trained families of which transformers has no model with a head for labels."""

TRAINED: tuple[str, ...] = tuple(name for name, family in FAMILIES.items() if family.engines)
"""Families that an engine of this version trains. The others are known by their sizes alone."""

_UNKNOWN = Family()
_OTHERS: Mapping[str, Family] = {name: Family(sdpa=other.sdpa) for name, other in OTHER_FAMILIES.items()}


def family_named(model_type: str) -> Family:
    """The row of this model_type; of one that is not known, a row without anything of its own."""
    return FAMILIES.get(model_type) or _OTHERS.get(model_type, _UNKNOWN)


def trained_by(engine: EngineName) -> tuple[str, ...]:
    """The families that this engine trains."""
    return tuple(name for name, family in FAMILIES.items() if engine in family.engines)
