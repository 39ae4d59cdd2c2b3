"""One trainer's recipes: its keys, its defaults, and how its datasets are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llmtrain_operator.recipes.counterpart import RecipeKey, Settings, Told, unknown


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
class Beside:
    """What a trainer keeps next to its recipes: LLaMA-Factory's register of datasets."""

    register: Mapping[str, Any] = field(default_factory=dict)
    """Name -> description of a dataset; empty where there is none."""

    directory: str | None = None
    """Where the register lies, to which paths in it are relative. Default: the recipe's dataset_dir."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Datasets:
    """The datasets of a recipe. An entry has its fields by path below dataset[]."""

    trained: list[dict[str, Any]]
    evaluated: list[dict[str, Any]]
    lines: list[Line]
    """One for each key of an entry, or for each entry."""


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
    defaults: Callable[[Settings], Mapping[str, Any]]
    """Keys that this recipe may leave out, where the trainer's default is another than llmtrain's."""

    datasets: Callable[[Settings, Beside], Datasets]
    """Raises nothing: what is wrong with a dataset stands in its line."""

    derived: Mapping[str, Callable[[Settings, Devices], Any]]
    """Fields that several keys make together; None if the recipe has none of them. Raises ValueError if one of them is no number."""

    def key(self, path: str) -> RecipeKey:
        """What a key of a recipe becomes."""
        if path in self.keys:
            return self.keys[path]
        known = [name for name in self.prefixes if path.startswith(name)]
        return self.prefixes[max(known, key=len)] if known else unknown("llmtrain does not know this key")
