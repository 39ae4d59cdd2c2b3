"""config.json -> ModelShape, by the keys and defaults of its family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmtrain_operator.manifest.divisors import divisors, listed
from llmtrain_operator.manifest.problem import PlanError, Problem
from llmtrain_operator.manifest.suggestions import shown
from llmtrain_operator.plan.model.config_values import wrong_values
from llmtrain_operator.plan.model.shape import Latent, ModelShape
from llmtrain_operator.plan.model.traits import traits_of
from llmtrain_operator.plan.model.unknown_keys import misspelt
from llmtrain_trainer.config.tables.families import FAMILIES, GPT2_KEYS, T5, TRAINED, family_named
from llmtrain_trainer.config.tables.family import LLAMA, Family, Flag
from llmtrain_trainer.config.tables.other_families import OTHER_FAMILIES

MOST, MOST_LAYERS, MOST_POSITIONS = 1 << 24, 10_000, (1 << 31) - 1
"""Largest accepted sizes, layers and positions: far above every published model, and small enough that no plan takes long."""

MOST_PARAMETERS = 10**15
"""Most parameters of a model: a thousand times the largest published one; derived numbers still fit into JSON."""


INLINE = "spec.model.config"


def shape_of(config: Mapping[str, Any], *, where: str = INLINE) -> ModelShape:
    """Read a config.json. `where`: path before the key in messages.

    Raises PlanError with every key that is missing or invalid, or with the family if no engine trains it.
    """
    model_type = config.get("model_type")
    if model_type is None:
        raise PlanError(
            [Problem(f"{where}.model_type", "missing", "it must name the model family", f"Use a model of type {listed(TRAINED)}")]
        )
    family = FAMILIES.get(model_type) if isinstance(model_type, str) else None
    if isinstance(model_type, str) and model_type in OTHER_FAMILIES:
        return _uncounted(config, model_type, where)
    if family is None:
        raise PlanError([untrained(model_type, where)])
    reader = _Reader(config, where, family.aliases)
    shape = _t5(reader, family) if family.linear is T5 else _decoder(reader, family, str(model_type))
    reader.refuse(family.refused)
    reader.check(shape)
    if model_type in TRAINED and not reader.problems:
        reader.problems += [Problem(f"{where}.{key}", *told) for key, *told in wrong_values(reader.config, shape)]
    if where == INLINE and model_type in TRAINED:
        reader.problems += [Problem(f"{where}.{key}", *told) for key, *told in misspelt(config)]
    if reader.problems:
        raise PlanError(reader.problems if model_type in TRAINED else [untrained(model_type, where)])
    return shape


def _uncounted(config: Mapping[str, Any], model_type: str, where: str) -> ModelShape:
    """A model whose sizes only transformers knows."""
    reader = _Reader(config, where, {})
    vocab = reader.size("vocab_size", MOST)
    if reader.problems:
        raise PlanError(reader.problems)
    return ModelShape(
        model_type=model_type,
        layers=1,
        hidden=1,
        heads=1,
        kv_heads=1,
        head_dim=1,
        ffn=1,
        vocab=vocab,
        tied=True,
        max_positions=None,
        names=LLAMA,
        traits=traits_of(config, model_type),
        counted=False,
    )


def untrained(model_type: object, where: str) -> Problem:
    """The refusal of a model family that no engine trains; it replaces all other problems of its config.json."""
    rule = "no engine of this version trains models of this type"
    return Problem(f"{where}.model_type", shown(model_type), rule, f"Use a model of type {listed(TRAINED)}")


def _decoder(read: _Reader, family: Family, model_type: str) -> ModelShape:
    keys = family.keys
    hidden, heads = read.size(keys["hidden"]), read.size(keys["heads"])
    kv_heads = (
        heads if family.keys is GPT2_KEYS else read.size("num_key_value_heads", read.default("num_key_value_heads", family.kv_heads, heads))
    )
    layers, latent = read.size(keys["layers"]), _latent(read) if family.latent else None
    return ModelShape(
        model_type=model_type,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=latent.rotated if latent else read.size("head_dim", read.default("head_dim", family.head_dim, hidden // heads)),
        ffn=read.size(keys["ffn"], 4 * hidden if family.keys is GPT2_KEYS else None),
        vocab=read.size(keys["vocab"]),
        tied=read.yes("tie_word_embeddings", family.tied),
        max_positions=read.size(keys["positions"], 1024 if family.learned_positions else 0) or None,
        names=family.linear,
        learned_positions=family.learned_positions,
        gated=family.gated,
        qkv_bias=read.flag(family.qkv_bias, family),
        out_bias=read.flag(family.out_bias, family),
        mlp_bias=read.flag(family.mlp_bias, family),
        head_bias=family.head_bias,
        norm_weight=family.norm_weight,
        norm_bias=family.norm_bias,
        norms_per_layer=read.norms(family),
        qk_norm=family.qk_norm if not family.qk_norm_asked or read.yes(family.qk_norm_asked, False) else "none",
        traits=traits_of(read.config, model_type),
        latent=latent,
        **(_mixture(read, family, layers) if family.mixture else {}),
    )


def _mixture(read: _Reader, family: Family, layers: int) -> dict[str, Any]:
    keys = family.mixture
    width = read.size(keys["width"])
    shared = read.size(keys["shared"]) if "shared" in keys else 0
    dense = read.layers("mlp_only_layers") if family.dense_layers else frozenset()
    step = read.size("decoder_sparse_step", 1) if family.dense_layers else 1
    first = read.count(keys["first_dense"]) if "first_dense" in keys else 0
    return {
        "experts": read.size(keys["experts"]),
        "experts_per_token": read.size("num_experts_per_tok"),
        "expert_ffn": width,
        "shared_ffn": read.count(keys["shared_count"]) * width if "shared_count" in keys else shared,
        "shared_gate": bool(shared),
        "dense_layers": frozenset(layer for layer in range(layers) if layer < first or layer in dense or (layer + 1) % step),
    }


def _latent(read: _Reader) -> Latent:
    return Latent(
        queries=read.size("q_lora_rank", 0 if "q_lora_rank" in read.config else 1536),
        keys=read.size("kv_lora_rank", 512),
        plain=read.size("qk_nope_head_dim", 128),
        rotated=read.size("qk_rope_head_dim", 64),
        values=read.size("v_head_dim", 128),
    )


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
    """Reads sizes from a config.json and collects problems with them."""

    def __init__(self, config: Mapping[str, Any], where: str, aliases: Mapping[str, str]) -> None:
        self.where = where
        self.problems: list[Problem] = []
        self.config = dict(config)
        for alias, key in aliases.items():
            self._read_alias(alias, key)

    def _read_alias(self, alias: str, key: str) -> None:
        """Move the value of `alias` to its key."""
        given = self.config.pop(alias, None)
        if given is None:
            return
        if self.config.setdefault(key, given) != given:
            rule = f"{key} is {shown(self.config[key])}, and both keys mean the same"
            self.problems.append(Problem(f"{self.where}.{alias}", shown(given), rule, f"Give only {key}"))

    def size(self, key: str, default: int | None = None) -> int:
        """A positive integer. After a problem it returns 1, so that reading continues."""
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

    def count(self, key: str) -> int:
        """A number that may be 0, as null is."""
        return 0 if self.config.get(key) in (None, 0) else self.size(key)

    def yes(self, key: str, default: bool) -> bool:
        """A boolean; null means the default, as in transformers."""
        value = self.config.get(key)
        if isinstance(value, bool):
            return value
        if value is not None:
            self._wrong(key, value, "it must be true or false")
        return default

    def layers(self, key: str) -> frozenset[int]:
        """A set of layer numbers; empty if the key is absent."""
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
        """The default of an absent key, or of one that is null, which transformers derives from the other sizes."""
        return null if left_out is None or key in self.config else left_out

    def flag(self, flag: Flag, family: Family) -> bool:
        return flag if isinstance(flag, bool) else self.yes(flag, flag in family.on_by_default)

    def norms(self, family: Family) -> int:
        """Of a layer."""
        flag, default, otherwise = family.norms_otherwise or ("", True, family.norms)
        return family.norms if self.yes(flag, default) == default else otherwise

    def refuse(self, flags: Mapping[str, str]) -> None:
        """What the family has and no engine trains."""
        for key, reason in flags.items():
            if self.yes(key, False):
                self.problems.append(Problem(f"{self.where}.{key}", "true", reason, "Use a model without it"))

    def check(self, shape: ModelShape) -> None:
        given = self.config.get("head_dim") or self.config.get("d_kv")
        rounded = shape.latent or family_named(shape.model_type).uneven
        if not self.problems and not given and not rounded and shape.hidden % shape.heads:
            rule = f"it must be a multiple of the {shape.heads} attention heads"
            way_out = "Change it or num_attention_heads, or give head_dim"
            self.problems.append(Problem(f"{self.where}.hidden_size", str(shape.hidden), rule, way_out))
        if not self.problems and shape.heads % shape.kv_heads:
            rule = f"it must divide num_attention_heads ({shape.heads})"
            self.problems.append(
                Problem(f"{self.where}.num_key_value_heads", str(shape.kv_heads), rule, f"Use {listed(divisors(shape.heads))}")
            )
        if not self.problems and shape.parameters > MOST_PARAMETERS:
            rule = f"its sizes give {shape.parameters:.3g} parameters, and at most {MOST_PARAMETERS:.0e} are supported"
            self.problems.append(Problem(self.where, shape.model_type, rule, "Write the sizes as in the model's config.json"))


def _most(key: str) -> int:
    if "position" in key:
        return MOST_POSITIONS
    return MOST_LAYERS if "layer" in key else MOST
