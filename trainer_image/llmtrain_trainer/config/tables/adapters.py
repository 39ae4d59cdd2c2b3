"""The adapter methods by name, and what operator and trainer know of each. Which engines train them stands in the table of engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

AdapterMethod = Literal["lora", "rslora", "dora"]
DEFAULT_ADAPTER: AdapterMethod = "lora"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterTraits:
    """One method. Each adds scale(alpha, rank) * B A to the weight of a linear layer; A is [rank, in], B is [out, rank]."""

    scale: Callable[[float, int], float]
    """Factor of the update, from alpha and rank; the same when an adapter is merged."""

    magnitude: bool = False
    """Whether each output has a trained magnitude besides: W + scale * B A is scaled row by row to these lengths (DoRA)."""

    tensor: bool = True
    """Whether tensor parallelism splits it. The lengths of rows would need an all-reduce over the ranks that split them."""

    options: Mapping[str, bool] = field(default_factory=dict)
    """Arguments of peft's LoraConfig besides rank, alpha, dropout and targets. An adapter's files name them too."""


ADAPTERS: Mapping[AdapterMethod, AdapterTraits] = {
    "lora": AdapterTraits(scale=lambda alpha, rank: alpha / rank),
    "rslora": AdapterTraits(scale=lambda alpha, rank: alpha / rank**0.5, options={"use_rslora": True}),
    "dora": AdapterTraits(scale=lambda alpha, rank: alpha / rank, magnitude=True, tensor=False, options={"use_dora": True}),
}

_OPTIONS = sorted({name for traits in ADAPTERS.values() for name in traits.options})


def peft_options(method: AdapterMethod) -> dict[str, bool]:
    """Every option that any method sets, with this method's value: those of other methods are False."""
    return {name: ADAPTERS[method].options.get(name, False) for name in _OPTIONS}


def is_adapter(name: str) -> bool:
    """Whether a parameter or module of this full name belongs to an adapter, by peft's naming."""
    return ".lora_" in name
