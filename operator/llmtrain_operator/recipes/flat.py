"""Nested mappings as paths with dots, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def leaves(recipe: Mapping[str, Any], known: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Keys of a recipe with their values: nested ones as a.b, and whole where the table knows the outer key alone."""
    for key, value in recipe.items():
        path = f"{prefix}{key}"
        whole = path in known and not any(name.startswith(f"{path}.") for name in known)
        if isinstance(value, Mapping) and value and not whole:
            yield from leaves(value, known, f"{path}.")
        else:
            yield path, value


def nested(fields: Mapping[str, Any]) -> dict[str, Any]:
    """{"a.b": 1} -> {"a": {"b": 1}}."""
    tree: dict[str, Any] = {}
    for path, value in fields.items():
        *outer, last = path.split(".")
        place = tree
        for name in outer:
            place = place.setdefault(name, {})
        place[last] = value
    return tree
