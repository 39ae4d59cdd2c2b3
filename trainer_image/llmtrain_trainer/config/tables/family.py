"""What a model family may have of its own. The families are rows of families.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from llmtrain_trainer.config.tables.engines import EngineName

Flag = bool | str
"""A fact of the family, or the key of config.json that says it."""

LinearNames = tuple[tuple[str, ...], str, tuple[str, ...], str]
"""Last path parts of the projections: into attention, out of it, into the feed-forward network, out of it. One name for several: fused."""

LLAMA: LinearNames = (("q_proj", "k_proj", "v_proj"), "o_proj", ("gate_proj", "up_proj"), "down_proj")

STANDARD = {
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "ffn": "intermediate_size",
    "vocab": "vocab_size",
    "positions": "max_position_embeddings",
}


@dataclass(frozen=True, slots=True)
class StageModuleNames:
    """Names of children of the base model: the list of layers, and the modules that only the first or only the last stage holds."""

    first_stage_only: tuple[str, ...]
    layers: str
    last_stage_only: tuple[str, ...]


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

    uneven: bool = False
    """Whether heads need not divide the hidden size: head_dim is rounded down."""

    gated: bool = True
    qkv_bias: Flag = False
    out_bias: Flag = False
    mlp_bias: Flag = False
    on_by_default: tuple[str, ...] = ()
    """Flags that are on when config.json leaves them out."""

    head_bias: bool = False
    norm_weight: bool = True
    norm_bias: bool = False
    norms: int = 2
    """Of a layer, without those of queries and keys."""

    norms_otherwise: tuple[str, bool, int] | None = None
    """A flag, its default, and how many norms a layer has with the other value."""

    qk_norm: Literal["none", "head", "full"] = "none"
    latent: bool = False
    """Whether keys and values, and queries where q_lora_rank is given, are made of narrow ones, as in DeepSeek V2."""

    qk_norm_asked: str = ""
    """Flag without which there is no qk_norm."""

    learned_positions: bool = False
    windowed: Literal["never", "always", "asked"] = "never"
    """Whether sliding_window counts: by itself, or with use_sliding_window."""

    window: int | None = None
    """Default of sliding_window."""

    partial_rotary: float = 1.0
    """Default of partial_rotary_factor."""

    sdpa: bool = True
    """Whether its attention can be computed by sdpa; without, the scores are capped, which eager and flash attention do."""

    parts_shown: bool = False
    """Whether parity rows show context and expert parallelism."""

    refused: Mapping[str, str] = field(default_factory=dict)
    """Flags of config.json that no engine trains, with the reason."""

    mixture: Mapping[str, str] = field(default_factory=dict)
    """Keys of a mixture of experts: how many, their width, that of the shared one or how many of that width it stands for, how many of the
    first layers are dense."""

    dense_layers: bool = False
    """Whether mlp_only_layers and decoder_sparse_step leave some layers of a mixture dense."""

    router_normalised: Flag = True
    """Whether the weights of a token's experts sum to one."""

    router_jitter: bool = False
    """Whether router_jitter_noise is read."""

    parts: StageModuleNames | None = None
    """None: as transformers' base_model_pp_plan says."""

    between: Mapping[str, float] = field(default_factory=dict)
    """Attributes of the base model by which its forward changes embeddings before the first layer, and the values that change nothing:
    those of later stages."""

    published: ExpertNames | None = None
    """None: files name the weights as the model does."""

    renamed: Mapping[str, str] = field(default_factory=dict)
    """Module at the beginning of a weight's name -> what published files call it."""

    transposed: bool = False
    """Whether linear layers keep [inputs, outputs]."""

    tensor: bool = True
    """Whether there is a tensor-parallel plan."""

    plan: Mapping[str, str] | None = None
    """Module of a layer -> style of its split; None: as transformers' base_model_tp_plan says."""

    in_place: str = ""
    """Key of config.json with which its forward changes outputs of column layers in place: they must be no views then."""

    gathered: tuple[Literal["attention", "network"], ...] = ()
    """StageModuleNames of a layer whose matrices are split, and whose activations every tensor-parallel rank holds whole."""

    dense_named_as_experts: bool = False
    """Whether dense layers get no adapters: peft takes the names of their matrices for those of the experts, and adapts these."""

    engines: tuple[EngineName, ...] = ()
    """What trains it; none: it is known by its sizes alone."""

    def kernel(self, asked: str) -> str:
        """The attention kernel that runs, of `model.attention`."""
        return "eager" if asked == "sdpa" and not self.sdpa else asked
