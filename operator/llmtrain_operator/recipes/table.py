"""One trainer's recipes: its keys, its defaults, and how its datasets are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from llmtrain_operator.recipes.counterpart import RecipeKey, Told, cannot


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the table that a person reads: a key, its value, and what became of it."""

    key: str
    value: Any
    told: Told


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """What the job runs on; recipes do not say it."""

    nodes: int = 1
    gpus_per_node: int = 0
    gpu: str | None = None

    @property
    def count(self) -> int:
        """Ranks; one CPU process without GPUs."""
        return self.nodes * max(1, self.gpus_per_node)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainer:
    """One trainer."""

    title: str
    keys: Mapping[str, RecipeKey]
    entry: Mapping[str, RecipeKey]
    """Keys of one dataset; in a recipe's list their names begin with `datasets[].`."""

    lists: tuple[str, ...]
    """Keys that hold lists of datasets."""

    deciding: tuple[str, ...]
    """Keys without which another thing would be trained: where one cannot be said, there is no manifest."""

    prefixes: Mapping[str, RecipeKey]
    defaults: Mapping[str, Any]
    """Keys that a recipe may leave out, where the trainer's default is another than llmtrain's."""

    datasets: Callable[[Mapping[str, Any], Mapping[str, Any]], tuple[list[dict[str, Any]], list[Line]]]
    """(recipe, facts beside it) -> entries of spec.dataset, and a line for each key of an entry."""

    derived: Mapping[str, Callable[[Mapping[str, Any], Devices], Any]]
    """Fields that several keys make together; None if the recipe has none of them. Raises ValueError if one of them is no number."""

    def key(self, path: str) -> RecipeKey:
        """What a key of a recipe becomes."""
        if path in self.keys:
            return self.keys[path]
        known = [name for name in self.prefixes if path.startswith(name)]
        return self.prefixes[max(known, key=len)] if known else cannot("llmtrain does not know this key")
