"""config.json -> Traits: what a model asks of an engine beside its sizes. Read by families.py, asked by advice.py and the refusals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmtrain_trainer.config.quantized import Quantized, quantized

ALWAYS_WINDOWED: Mapping[str, int | None] = {"mistral": 4096, "mixtral": None}
"""Families whose sliding_window counts by itself, with its default."""

WHERE_ASKED: Mapping[str, int] = {"qwen2": 4096, "qwen2_moe": 4096, "qwen3": 4096, "qwen3_moe": 4096}
"""Families whose sliding_window counts with use_sliding_window."""

GATED_SILU = ("llama", "mistral", "mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe")
"""Families whose activation is silu, which hidden_act may change."""

ROUTER_LOSS = 0.001
"""Default of router_aux_loss_coef in every family that has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """Of one config.json."""

    activation: str = ""
    """Of the families that engine megatron may know; empty for others."""

    rope: str = "default"
    """Kind of the rotary embedding: linear, dynamic, yarn, llama3, ..."""

    partial_rotary: float = 1.0
    """Share of a head that is rotated."""

    window: int | None = None
    """Tokens that a token sees, itself included; None: all before it."""

    router_loss: float = 0.0
    """Coefficient of the loss that balances the experts; 0 where it is not asked for."""

    router_jitter: float = 0.0
    """Noise on what a router sees."""

    quantized: Quantized | None = None


PLAIN = Traits()


def traits_of(config: Mapping[str, Any], model_type: str) -> Traits:
    """With transformers' defaults for what the file leaves out. A value of a wrong type counts as left out: transformers refuses it."""
    rope, share = _rope(config)
    return Traits(
        activation=str(config.get("hidden_act") or "silu") if model_type in GATED_SILU else "",
        rope=rope,
        partial_rotary=share,
        window=_window(config, model_type),
        router_loss=_number(config.get("router_aux_loss_coef"), ROUTER_LOSS) if config.get("output_router_logits") else 0.0,
        router_jitter=_number(config.get("router_jitter_noise"), 0.0) if model_type == "mixtral" else 0.0,
        quantized=quantized(config),
    )


def _rope(config: Mapping[str, Any]) -> tuple[str, float]:
    """Kind and rotated share. `rope_scaling` is the older name of `rope_parameters`, and goes before it; either may hold one mapping
    for each kind of layer."""
    found = config.get("rope_scaling") or config.get("rope_parameters") or {}
    found = found if isinstance(found, Mapping) else {}
    nested = [value for value in found.values() if isinstance(value, Mapping)] or [found]
    kinds = [str(one.get("rope_type") or one.get("type") or "default") for one in nested]
    shares = [_number(one.get("partial_rotary_factor", config.get("partial_rotary_factor")), 1.0) for one in nested]
    return next((kind for kind in kinds if kind != "default"), "default"), min(shares)


def _window(config: Mapping[str, Any], model_type: str) -> int | None:
    if model_type in ALWAYS_WINDOWED:
        window = config.get("sliding_window", ALWAYS_WINDOWED[model_type])
    elif model_type in WHERE_ASKED and config.get("use_sliding_window"):
        window = config.get("sliding_window", WHERE_ASKED[model_type])
    else:
        window = None
    return window if isinstance(window, int) and not isinstance(window, bool) else None


def _number(value: object, default: float) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300 else default
