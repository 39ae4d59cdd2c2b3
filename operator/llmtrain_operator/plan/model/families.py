"""config.json -> ModelShape: which keys each model family uses, and its defaults for keys that a config.json may leave out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from llmtrain_operator.manifest.divisors import divisors, listed
from llmtrain_operator.manifest.problem import PlanError, Problem
from llmtrain_operator.manifest.suggestions import shown
from llmtrain_operator.plan.model.config_values import wrong_values
from llmtrain_operator.plan.model.shape import ModelShape, Names
from llmtrain_operator.plan.model.traits import traits_of

Flag = bool | str
"""A fact of the family, or the key of config.json that says it."""

LLAMA: Names = (("q_proj", "k_proj", "v_proj"), "o_proj", ("gate_proj", "up_proj"), "down_proj")
PHI3: Names = (("qkv_proj",), "o_proj", ("gate_up_proj",), "down_proj")
GPT2: Names = (("c_attn",), "c_proj", ("c_fc",), "c_proj")
NEOX: Names = (("query_key_value",), "dense", ("dense_h_to_4h",), "dense_4h_to_h")
T5: Names = (("q", "k", "v"), "o", ("wi",), "wo")

STANDARD = {
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "ffn": "intermediate_size",
    "vocab": "vocab_size",
    "positions": "max_position_embeddings",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One model_type. The defaults are those of its configuration class in transformers."""

    keys: Mapping[str, str] = field(default_factory=lambda: STANDARD)
    names: Names = LLAMA
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
    norm_bias: bool = False
    norms: int = 2
    qk_norm: Literal["none", "head", "full"] = "none"
    learned_positions: bool = False
    mixture: Mapping[str, Any] = field(default_factory=dict)


MIXTRAL = {"experts": "num_local_experts", "width": "intermediate_size"}
QWEN_MOE = {"experts": "num_experts", "width": "moe_intermediate_size"}
GEMMA: dict[str, Any] = {"tied": True, "head_dim": 256, "qkv_bias": "attention_bias", "out_bias": "attention_bias"}
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

FAMILIES: Mapping[str, Family] = {
    "llama": Family(qkv_bias="attention_bias", out_bias="attention_bias", mlp_bias="mlp_bias"),
    "mistral": Family(kv_heads=8),
    "qwen2": Family(kv_heads=32, qkv_bias=True),
    "qwen3": Family(kv_heads=32, head_dim=128, qkv_bias="attention_bias", out_bias="attention_bias", qk_norm="head"),
    "gemma": Family(kv_heads=16, **GEMMA),
    "gemma2": Family(kv_heads=4, norms=4, **GEMMA),
    "gemma3_text": Family(kv_heads=4, norms=4, qk_norm="head", **GEMMA),
    "phi3": Family(names=PHI3),
    "olmo2": Family(qkv_bias="attention_bias", out_bias="attention_bias", qk_norm="full"),
    "mixtral": Family(kv_heads=8, mixture=MIXTRAL),
    "qwen2_moe": Family(kv_heads=16, qkv_bias="qkv_bias", mixture=QWEN_MOE | {"shared": "shared_expert_intermediate_size"}),
    "qwen3_moe": Family(kv_heads=4, qkv_bias="attention_bias", out_bias="attention_bias", qk_norm="head", mixture=QWEN_MOE),
    "gpt2": Family(
        keys=GPT2_KEYS,
        names=GPT2,
        tied=True,
        gated=False,
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        norm_bias=True,
        learned_positions=True,
    ),
    "gpt_neox": Family(names=NEOX, gated=False, qkv_bias="attention_bias", out_bias="attention_bias", mlp_bias=True, norm_bias=True),
    "t5": Family(keys=T5_KEYS, names=T5, tied=True, gated=False),
    "mt5": Family(keys=T5_KEYS, names=T5, tied=True),
}

TRAINED = ("llama", "mistral", "qwen2", "qwen3", "gpt2", "mixtral", "qwen2_moe", "qwen3_moe")
"""Families that an engine of this version trains. The others of FAMILIES are known by their sizes alone."""

MOST, MOST_LAYERS, MOST_POSITIONS = 1 << 24, 10_000, (1 << 31) - 1
"""The largest size that is read, of layers and of positions: far above every published model, and small enough that no plan takes long."""

MOST_PARAMETERS = 10**15
"""A thousand times the largest published model; what is counted of it still fits into the numbers of JSON."""

ALIASES: Mapping[str, Mapping[str, str]] = {
    "gpt2": {
        "num_hidden_layers": "n_layer",
        "hidden_size": "n_embd",
        "num_attention_heads": "n_head",
        "max_position_embeddings": "n_positions",
    },
    "mixtral": {"num_experts": "num_local_experts"},
    "qwen3_moe": {"num_local_experts": "num_experts"},
    "t5": T5_ALIASES,
    "mt5": T5_ALIASES,
}
"""Other names that transformers reads or writes for a family's key (its attribute_map), and the name used here."""

TRUE_BY_DEFAULT = {"qkv_bias"}, {"gpt_neox": {"attention_bias"}}
"""Flags that are on when config.json leaves them out: by key, and by family and key."""


def shape_of(config: Mapping[str, Any], *, where: str = "spec.model.config") -> ModelShape:
    """Read a config.json.

    Raises PlanError that names every key that is missing or no positive integer, or the family where no engine trains it; `where` is the
    path before the key.
    """
    model_type = config.get("model_type")
    if model_type is None:
        raise PlanError([Problem(f"{where}.model_type", "missing", "it names the model family", f"Use a model of type {listed(TRAINED)}")])
    family = FAMILIES.get(model_type) if isinstance(model_type, str) else None
    if family is None:
        raise PlanError([untrained(model_type, where)])
    reader = _Reader(config, where, ALIASES.get(str(model_type), {}))
    shape = _t5(reader, family) if family.names is T5 else _decoder(reader, family, str(model_type))
    reader.check(shape)
    if model_type in TRAINED and not reader.problems:
        reader.problems += [Problem(f"{where}.{key}", *told) for key, *told in wrong_values(reader.config, shape)]
    if reader.problems:
        raise PlanError(reader.problems if model_type in TRAINED else [untrained(model_type, where)])
    return shape


def untrained(model_type: object, where: str) -> Problem:
    """Nothing else of its config.json matters."""
    rule = "no engine of this version trains models of this type"
    return Problem(f"{where}.model_type", shown(model_type), rule, f"Use a model of type {listed(TRAINED)}")


def _decoder(read: _Reader, family: Family, model_type: str) -> ModelShape:
    keys = family.keys
    hidden, heads = read.size(keys["hidden"]), read.size(keys["heads"])
    kv_heads = (
        heads if family.keys is GPT2_KEYS else read.size("num_key_value_heads", read.default("num_key_value_heads", family.kv_heads, heads))
    )
    layers = read.size(keys["layers"])
    return ModelShape(
        model_type=model_type,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=read.size("head_dim", read.default("head_dim", family.head_dim, hidden // heads)),
        ffn=read.size(keys["ffn"], 4 * hidden if family.keys is GPT2_KEYS else None),
        vocab=read.size(keys["vocab"]),
        tied=read.yes("tie_word_embeddings", family.tied),
        max_positions=read.size(keys["positions"], 1024 if family.learned_positions else 0) or None,
        names=family.names,
        learned_positions=family.learned_positions,
        gated=family.gated,
        qkv_bias=read.flag(family.qkv_bias, model_type),
        out_bias=read.flag(family.out_bias, model_type),
        mlp_bias=read.flag(family.mlp_bias, model_type),
        norm_bias=family.norm_bias,
        norms_per_layer=family.norms,
        qk_norm=family.qk_norm,
        traits=traits_of(read.config, model_type),
        **(_mixture(read, family.mixture, layers) if family.mixture else {}),
    )


def _mixture(read: _Reader, keys: Mapping[str, str], layers: int) -> dict[str, Any]:
    shared = read.size(keys["shared"]) if "shared" in keys else 0
    dense = read.layers("mlp_only_layers")
    step = read.size("decoder_sparse_step", 1)
    return {
        "experts": read.size(keys["experts"]),
        "experts_per_token": read.size("num_experts_per_tok"),
        "expert_ffn": read.size(keys["width"]),
        "shared_ffn": shared,
        "shared_gate": bool(shared),
        "dense_layers": frozenset(layer for layer in range(layers) if layer in dense or (layer + 1) % step),
    }


def _t5(read: _Reader, family: Family) -> ModelShape:
    gated = str(read.config.get("feed_forward_proj", "gated-gelu" if family.gated else "relu")).startswith("gated")
    encoder = read.size("num_layers")
    return ModelShape(
        model_type=str(read.config["model_type"]),
        layers=read.size("num_decoder_layers", encoder),
        encoder_layers=encoder,
        hidden=read.size("d_model"),
        heads=read.size("num_heads"),
        kv_heads=read.size("num_heads"),
        head_dim=read.size("d_kv"),
        ffn=read.size("d_ff"),
        vocab=read.size("vocab_size"),
        tied=True,  # transformers ties T5 whatever config.json says; there the key only scales the decoder's outputs
        max_positions=None,
        names=(T5[0], T5[1], ("wi_0", "wi_1") if gated else ("wi",), T5[3]),
        gated=gated,
        position_buckets=read.size("relative_attention_num_buckets", 32),
        traits=traits_of(read.config, str(read.config["model_type"])),
    )


class _Reader:
    """Takes sizes out of a config.json and remembers what was wrong with them."""

    def __init__(self, config: Mapping[str, Any], where: str, aliases: Mapping[str, str]) -> None:
        self.where = where
        self.problems: list[Problem] = []
        self.config = dict(config)
        for alias, key in aliases.items():
            self._read_alias(alias, key)

    def _read_alias(self, alias: str, key: str) -> None:
        """Put what the file says under `alias` where it is looked for."""
        given = self.config.pop(alias, None)
        if given is None:
            return
        if self.config.setdefault(key, given) != given:
            rule = f"{key} is {shown(self.config[key])}, and both name the same"
            self.problems.append(Problem(f"{self.where}.{alias}", shown(given), rule, f"Give {key} alone"))

    def size(self, key: str, default: int | None = None) -> int:
        """A positive integer; 1 stands in for a wrong one, so that reading goes on to the next problem."""
        value = self.config.get(key)
        if value is None and default is not None:
            return default
        if type(value) is not int or value <= 0:
            self._wrong(key, value, "it must be a positive integer")
            return 1
        if value > (most := _most(key)):
            self._wrong(key, value, f"it must be at most {most}")
            return 1
        return value

    def yes(self, key: str, default: bool) -> bool:
        """A truth value; null stands for the default, as in transformers."""
        value = self.config.get(key)
        if isinstance(value, bool):
            return value
        if value is not None:
            self._wrong(key, value, "it must be true or false")
        return default

    def layers(self, key: str) -> frozenset[int]:
        """A list of layer numbers; empty where there is none."""
        value = self.config.get(key)
        if value is None:
            return frozenset()
        if isinstance(value, list) and len(value) <= MOST_LAYERS and all(type(each) is int for each in value):
            return frozenset(value)
        self._wrong(key, value, f"it must be a list of at most {MOST_LAYERS} layer numbers")
        return frozenset()

    def _wrong(self, key: str, value: object, rule: str) -> None:
        found = "missing" if value is None else shown(value)
        self.problems.append(Problem(f"{self.where}.{key}", found, rule, "Write it as in the model's config.json"))

    def default(self, key: str, left_out: int | None, null: int) -> int:
        """What stands for a key that is left out, and for one that is null: transformers derives that from the other sizes."""
        return null if left_out is None or key in self.config else left_out

    def flag(self, flag: Flag, model_type: str) -> bool:
        if isinstance(flag, bool):
            return flag
        always, by_family = TRUE_BY_DEFAULT
        return self.yes(flag, flag in always or flag in by_family.get(model_type, ()))

    def check(self, shape: ModelShape) -> None:
        given = self.config.get("head_dim") or self.config.get("d_kv")
        if not self.problems and not given and shape.hidden % shape.heads:
            rule = f"it must be a multiple of the {shape.heads} attention heads"
            way_out = "Change it or num_attention_heads, or give head_dim"
            self.problems.append(Problem(f"{self.where}.hidden_size", str(shape.hidden), rule, way_out))
        if not self.problems and shape.heads % shape.kv_heads:
            rule = f"it must divide num_attention_heads ({shape.heads})"
            self.problems.append(
                Problem(f"{self.where}.num_key_value_heads", str(shape.kv_heads), rule, f"Use {listed(divisors(shape.heads))}")
            )
        if not self.problems and shape.parameters > MOST_PARAMETERS:
            rule = f"its sizes multiply to {shape.parameters:.3g} parameters, and at most {MOST_PARAMETERS:.0e} are planned"
            self.problems.append(Problem(self.where, shape.model_type, rule, "Write the sizes as in the model's config.json"))


def _most(key: str) -> int:
    if "position" in key:
        return MOST_POSITIONS
    return MOST_LAYERS if "layer" in key else MOST
