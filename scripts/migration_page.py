"""Writes the tables of docs/migration.md: what each key of public recipes becomes, and how many of them have a counterpart."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from llmtrain_operator.recipes.counterpart import Counterpart, RecipeKey
from llmtrain_operator.recipes.registry import TRAINERS
from llmtrain_operator.recipes.table import Trainer
from llmtrain_trainer.convert.launch import load_script

ROOT = Path(__file__).parents[1]
FACTS = ROOT / "docs" / "recipe-keys.tsv"
"""Trainer, key, number of public recipes that set it, number of recipes read, commonest values."""

GROUPS = ((Counterpart.MAPS, Counterpart.SAME), (Counterpart.DIFFERS,), (Counterpart.NO_EFFECT,), (Counterpart.CANNOT,))


class Counted(NamedTuple):
    """A key of public recipes, how many set it, and what it becomes."""

    name: str
    recipes: int
    key: RecipeKey


def counted(title: str, trainer: Trainer) -> list[Counted]:
    """The keys of one trainer's public recipes, commonest first."""
    with FACTS.open() as lines:
        rows = [row for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE) if row["tool"] == title]
    return [Counted(row["key"], int(row["set_in"]), key_of(trainer, row["key"])) for row in rows]


def key_of(trainer: Trainer, name: str) -> RecipeKey:
    """What a key becomes; those of one dataset are named as in a list of datasets."""
    for prefix in ("datasets[].", "pretraining_dataset[]."):
        if name.startswith(prefix) and name.removeprefix(prefix) in trainer.entry:
            return trainer.entry[name.removeprefix(prefix)]
    return trainer.key(name)


def shares(keys: Sequence[Counted]) -> tuple[str, ...]:
    """Of all settings in all recipes, by GROUPS."""
    every = sum(each.recipes for each in keys)
    return tuple(f"{100 * sum(each.recipes for each in keys if each.key.outcome in group) / every:.1f} %" for group in GROUPS)


def main() -> None:
    """Both tables of each trainer."""
    tables = load_script(ROOT / "benchmarks" / "page_tables.py")
    page, rows = ROOT / "docs" / "migration.md", []
    for name, trainer in TRAINERS.items():
        keys = counted(name, trainer)
        rows.append((trainer.title, str(len(keys)), str(sum(each.recipes for each in keys)), *shares(keys)))
        lines = [(f"`{each.name}`", str(each.recipes), each.key.outcome.value, _becomes(each.key)) for each in keys]
        tables.fill(page, name, ("key", "recipes", "outcome", "becomes"), lines)
    head = ("trainer", "keys", "settings", "the same", "differs", "left out, no effect", "cannot be said")
    tables.fill(page, "counted", head, rows)


def _becomes(key: RecipeKey) -> str:
    fields = ", ".join(f"`{path}`" for path in key.into)
    return "; ".join(part for part in (fields, key.note) if part).replace("|", "\\|")


if __name__ == "__main__":
    main()
