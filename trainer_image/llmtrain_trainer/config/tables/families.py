"""The model families, once: which keys of config.json say what, how transformers names their parts, and which engines train them.

A family more is a row of FAMILIES here, and the types of its other keys in the operator's plan/model/config_values.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from llmtrain_trainer.config.tables.engines import EngineName

Flag = bool | str
"""A fact of the family, or the key of config.json that says it."""

LinearNames = tuple[tuple[str, ...], str, tuple[str, ...], str]
"""Last path parts of the projections: into attention, out of it, into the feed-forward network, out of it. One name for several: fused."""

LLAMA: LinearNames = (("q_proj", "k_proj", "v_proj"), "o_proj", ("gate_proj", "up_proj"), "down_proj")
PHI3: LinearNames = (("qkv_proj",), "o_proj", ("gate_up_proj",), "down_proj")
GPT2: LinearNames = (("c_attn",), "c_proj", ("c_fc",), "c_proj")
NEOX: LinearNames = (("query_key_value",), "dense", ("dense_h_to_4h",), "dense_4h_to_h")
T5: LinearNames = (("q", "k", "v"), "o", ("wi",), "wo")

STANDARD = {
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "ffn": "intermediate_size",
    "vocab": "vocab_size",
    "positions": "max_position_embeddings",
}
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


@dataclass(frozen=True, slots=True)
class StageModuleNames:
    """Names inside the base model of what only the first stage holds, of the list of layers, and of what only the last stage holds."""

    entrance: tuple[str, ...]
    layers: str
    exit: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ExpertNames:
    """What published files call a mixture's block, and inside it gate and up (rows of one fused tensor) and down."""

    block: str
    into: tuple[str, ...]
    out: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One model_type. The defaults are those of its configuration class in transformers."""

    keys: Mapping[str, str] = field(default_factory=lambda: STANDARD)
    linear: LinearNames = LLAMA
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Other names that transformers reads or writes for a key (its attribute_map), and the name used here."""

    tied: bool = False
    """Default of tie_word_embeddings."""

    kv_heads: int | None = None
    """Default of num_key_value_heads; None: as many as heads."""

    head_dim: int | None = None
    """Default of head_dim; None: hidden / heads."""

    gated: bool = True
    qkv_bias: Flag = False
    out_bias: Flag = False
    mlp_bias: Flag = False
    on_by_default: tuple[str, ...] = ()
    """Flags that are on when config.json leaves them out."""

    norm_bias: bool = False
    norms: int = 2
    qk_norm: Literal["none", "head", "full"] = "none"
    learned_positions: bool = False
    windowed: Literal["never", "always", "asked"] = "never"
    """Whether sliding_window counts: by itself, or with use_sliding_window."""

    window: int | None = None
    """Default of sliding_window."""

    mixture: Mapping[str, str] = field(default_factory=dict)
    """Keys of a mixture of experts: how many, their width, that of the shared one."""

    dense_layers: bool = False
    """Whether mlp_only_layers and decoder_sparse_step leave some layers of a mixture dense."""

    router_normalised: Flag = True
    """Whether the weights of a token's experts sum to one."""

    router_jitter: bool = False
    """Whether router_jitter_noise is read."""

    parts: StageModuleNames = StageModuleNames(("embed_tokens",), "layers", ("norm",))
    published: ExpertNames | None = None
    """None: files name the weights as the model does."""

    transposed: bool = False
    """Whether linear layers keep [inputs, outputs]."""

    tensor: bool = True
    """Whether there is a tensor-parallel plan."""

    dense_named_as_experts: bool = False
    """Whether dense layers get no adapters: peft takes the names of their matrices for those of the experts, and adapts these."""

    engines: tuple[EngineName, ...] = ()
    """What trains it; none: it is known by its sizes alone. Its forward does nothing between its parts that a second pipeline stage would
    repeat, such as scaling the embedding."""


EVERY: tuple[EngineName, ...] = ("native", "deepspeed", "megatron")
OWN_LAYERS: tuple[EngineName, ...] = ("native", "deepspeed")
"""Engines that run the modules of transformers."""

MIXTRAL = {"experts": "num_local_experts", "width": "intermediate_size"}
QWEN_MOE = {"experts": "num_experts", "width": "moe_intermediate_size"}
MIXTRAL_NAMES = ExpertNames("block_sparse_moe", ("w1", "w3"), "w2")
QWEN_NAMES = ExpertNames("mlp", ("gate_proj", "up_proj"), "down_proj")
BIASED: dict[str, Any] = {"qkv_bias": "attention_bias", "out_bias": "attention_bias"}
QWEN: dict[str, Any] = {"windowed": "asked", "window": 4096}
QWEN_MIXTURE: dict[str, Any] = QWEN | {"dense_layers": True, "router_normalised": "norm_topk_prob", "published": QWEN_NAMES}
GEMMA: dict[str, Any] = {"tied": True, "head_dim": 256} | BIASED

FAMILIES: Mapping[str, Family] = {
    "llama": Family(**BIASED, mlp_bias="mlp_bias", engines=EVERY),
    "mistral": Family(kv_heads=8, windowed="always", window=4096, engines=EVERY),
    "qwen2": Family(kv_heads=32, qkv_bias=True, **QWEN, engines=EVERY),
    "qwen3": Family(kv_heads=32, head_dim=128, **BIASED, qk_norm="head", **QWEN, engines=EVERY),
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
        engines=OWN_LAYERS,
    ),
    "mixtral": Family(
        kv_heads=8,
        aliases={"num_experts": "num_local_experts"},
        windowed="always",
        mixture=MIXTRAL,
        router_jitter=True,
        published=MIXTRAL_NAMES,
        engines=EVERY,
    ),
    "qwen2_moe": Family(
        kv_heads=16,
        qkv_bias="qkv_bias",
        on_by_default=("qkv_bias",),
        mixture=QWEN_MOE | {"shared": "shared_expert_intermediate_size"},
        **QWEN_MIXTURE,
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
        engines=EVERY,
    ),
    "gemma": Family(kv_heads=16, **GEMMA),
    "gemma2": Family(kv_heads=4, norms=4, **GEMMA),
    "gemma3_text": Family(kv_heads=4, norms=4, qk_norm="head", **GEMMA),
    "phi3": Family(linear=PHI3),
    "olmo2": Family(**BIASED, qk_norm="full"),
    "gpt_neox": Family(
        linear=NEOX,
        gated=False,
        **BIASED,
        on_by_default=("attention_bias",),
        mlp_bias=True,
        norm_bias=True,
    ),
    "t5": Family(keys=T5_KEYS, linear=T5, aliases=T5_ALIASES, tied=True, gated=False),
    "mt5": Family(keys=T5_KEYS, linear=T5, aliases=T5_ALIASES, tied=True),
}

TRAINED: tuple[str, ...] = tuple(name for name, family in FAMILIES.items() if family.engines)
"""Families that an engine of this version trains. The others are known by their sizes alone."""

_UNKNOWN = Family()


def family_named(model_type: str) -> Family:
    """The row of this model_type; of one that is not known, a row without anything of its own."""
    return FAMILIES.get(model_type, _UNKNOWN)


def trained_by(engine: EngineName) -> tuple[str, ...]:
    """The families that this engine trains."""
    return tuple(name for name, family in FAMILIES.items() if engine in family.engines)
