"""config.json -> Traits: requirements of a model on an engine, other than its sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmtrain_trainer.config.quantized import Quantized, quantized
from llmtrain_trainer.config.tables.families import family_named
from llmtrain_trainer.config.tables.family import Family

ROUTER_LOSS = 0.001
"""Default of router_aux_loss_coef in every family that has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """Traits of one config.json."""

    activation: str = ""
    """Activation function, for gated families of engine megatron; empty for others."""

    rope: str = "default"
    """Kind of the rotary embedding: linear, dynamic, yarn, llama3, ..."""

    partial_rotary: float = 1.0
    """Share of a head that is rotated."""

    window: int | None = None
    """Size of the attention window in tokens, including the token itself; None: no window."""

    router_loss: float = 0.0
    """Coefficient of the router loss; 0 if config.json does not ask for it."""

    router_jitter: float = 0.0
    """Noise on the input of routers."""

    quantized: Quantized | None = None


PLAIN = Traits()


def traits_of(config: Mapping[str, Any], model_type: str) -> Traits:
    """The traits, with transformers' defaults for absent keys. A value of a wrong type counts as absent: transformers refuses it."""
    family = family_named(model_type)
    rope, share = _rope(config, family.partial_rotary)
    return Traits(
        activation=str(config.get("hidden_act") or "silu") if family.gated and "megatron" in family.engines else "",
        rope=rope,
        partial_rotary=share,
        window=_window(config, family),
        router_loss=_number(config.get("router_aux_loss_coef"), ROUTER_LOSS) if config.get("output_router_logits") else 0.0,
        router_jitter=_number(config.get("router_jitter_noise"), 0.0) if family.router_jitter else 0.0,
        quantized=quantized(config),
    )


def _rope(config: Mapping[str, Any], share: float) -> tuple[str, float]:
    """RoPE type and rotated share. `rope_scaling` is the older name of `rope_parameters` and takes precedence; either may have one mapping
    for each kind of layer."""
    found = config.get("rope_scaling") or config.get("rope_parameters") or {}
    found = found if isinstance(found, Mapping) else {}
    nested = [value for value in found.values() if isinstance(value, Mapping)] or [found]
    kinds = [str(one.get("rope_type") or one.get("type") or "default") for one in nested]
    shares = [_number(one.get("partial_rotary_factor", config.get("partial_rotary_factor")), share) for one in nested]
    return next((kind for kind in kinds if kind != "default"), "default"), min(shares)


def _window(config: Mapping[str, Any], family: Family) -> int | None:
    counts = family.windowed == "always" or (family.windowed == "asked" and config.get("use_sliding_window"))
    window = config.get("sliding_window", family.window) if counts else None
    return window if isinstance(window, int) and not isinstance(window, bool) else None


def _number(value: object, default: float) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300 else default
