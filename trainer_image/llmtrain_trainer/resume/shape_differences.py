"""The differences between two descriptions of a model (data/model_facts.py) that mean different models. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_MOST = 6


def shape_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(key, value before, value now), the first few. A key that only one of them has is a default of another version of transformers."""
    return [found for found in _differences(before, now, "") if not _harmless(found[0], now)][:_MOST]


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any, Any]]:
    for key in before:
        if key not in now or before[key] == now[key]:
            continue
        if isinstance(before[key], Mapping) and isinstance(now[key], Mapping):
            yield from _differences(before[key], now[key], f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", before[key], now[key]


def _harmless(key: str, shape: Mapping[str, Any]) -> bool:
    """Keys that affect only training; also the number of positions, unless positions are weights."""
    last = key.rpartition(".")[2]
    rotary = any(name.startswith("rope") for name in shape)
    return "dropout" in last or last.endswith(("_pdrop", "_loss_coef", "jitter_noise")) or (last == "max_position_embeddings" and rotary)
