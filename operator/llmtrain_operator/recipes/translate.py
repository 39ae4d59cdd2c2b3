"""A recipe as a manifest, and a line for each of its keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from llmtrain_operator.api.job.spec import GROUP, KIND, VERSION
from llmtrain_operator.recipes.counterpart import Counterpart, RecipeKey, Settings, Told
from llmtrain_operator.recipes.flat import leaves, nested
from llmtrain_operator.recipes.held_out import ROWS, with_rows_held_out
from llmtrain_operator.recipes.settle import DATASET, STREAMING, in_all_datasets, settled
from llmtrain_operator.recipes.table import Beside, Devices, Line, Trainer


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """What a recipe became."""

    manifest: dict[str, Any]
    lines: tuple[Line, ...]
    """In the recipe's order, then the trainer's defaults."""


def translate(trainer: Trainer, recipe: Mapping[str, Any], *, name: str, devices: Devices, beside: Beside | None = None) -> Translation:
    """beside: what the trainer keeps next to its recipes."""
    written = {path: value for path, value in leaves(recipe, trainer.keys) if path not in trainer.lists}
    given = {path: value for path, value in written.items() if value is not None} | {list_: recipe.get(list_) for list_ in trainer.lists}
    defaults = {path: value for path, value in trainer.defaults(given).items() if written.get(path) is None}
    settings = defaults | given
    own = [told(trainer.key(path), path, value, settings) for path, value in written.items() if path not in defaults]
    usual = [told(trainer.key(path), path, value, settings) for path, value in defaults.items()]
    made = [_made(path, make, settings, devices) for path, make in trainer.derived.items()]
    read = trainer.datasets(settings, beside or Beside())
    fields = _fields(usual) | _fields(_by_table(own, trainer)) | _fields(made) | _resources(devices)
    entries, unread = in_all_datasets(fields, read.trained)
    evaluated, _ = in_all_datasets({path: value for path, value in fields.items() if path != STREAMING}, read.evaluated)
    fields = {path: value for path, value in fields.items() if not path.startswith(DATASET)}
    fields |= {"evaluation.dataset": [nested(entry) for entry in evaluated]} if evaluated else {}
    found, left_out = settled(with_rows_held_out(fields, entries))
    lines = [*own, *(replace(line, key=f"{line.key} (its default)") for line in usual)]
    lines = [_as_written(line, found, entries, left_out | unread) for line in lines]
    lines += [line for line in made if line.told.outcome is Counterpart.CANNOT]
    return Translation(manifest=_manifest(name, found, entries), lines=(*lines, *read.lines))


def told(key: RecipeKey, path: str, value: Any, settings: Settings) -> Line:
    """What a value makes of a key; a value that it does not have cannot be said. Null is what a recipe leaves open."""
    if value is None or value in ({}, []):
        return Line(key=path, value=value, told=Told(outcome=Counterpart.SAME, note="left empty"))
    try:
        return Line(key=path, value=value, told=key.read(value, settings))
    except (ValueError, TypeError, ArithmeticError) as error:
        return Line(key=path, value=value, told=Told(outcome=Counterpart.CANNOT, note=str(error)))


def _made(path: str, make: Callable[[Settings, Devices], Any], settings: Settings, devices: Devices) -> Line:
    """A field that several keys make together; a key of them that is no number leaves it out."""
    try:
        value = make(settings, devices)
    except (ValueError, TypeError, ArithmeticError) as error:
        return Line(key=f"{path} (of several keys)", value=None, told=Told(outcome=Counterpart.CANNOT, note=str(error)))
    return Line(key=path, value=value, told=Told(outcome=Counterpart.MAPS, fields={} if value is None else {path: value}))


def _by_table(lines: Iterable[Line], trainer: Trainer) -> list[Line]:
    """In the order of the table of keys, so that the order of a recipe's keys decides nothing."""
    order = {key: place for place, key in enumerate(trainer.keys)}
    return sorted(lines, key=lambda line: (order.get(line.key, len(order)), line.key))


def _fields(lines: Iterable[Line]) -> dict[str, Any]:
    return {path: value for line in lines for path, value in line.told.fields.items()}


def _as_written(line: Line, found: Mapping[str, Any], entries: list[dict[str, Any]], left_out: Mapping[str, str]) -> Line:
    """The line with those of its fields that stand in the manifest; without any it tells why."""
    if not line.told.fields:
        return line
    kept = {path: value for path, value in line.told.fields.items() if _stands(path, value, found, entries)}
    if kept:
        return replace(line, told=replace(line.told, fields=kept))
    path = next(iter(line.told.fields))
    why = left_out.get(path, f"other keys decide {path}")
    return replace(line, told=Told(outcome=Counterpart.NO_EFFECT, note=why))


def _stands(path: str, value: Any, found: Mapping[str, Any], entries: list[dict[str, Any]]) -> bool:
    if path == ROWS:
        return "evaluation.dataset" in found
    if path.startswith(DATASET):
        return any(entry.get(path.removeprefix(DATASET)) == value for entry in entries)
    return path in found and found[path] == value


def _resources(devices: Devices) -> dict[str, Any]:
    needed: dict[str, Any] = {"resources.nodes": devices.nodes}
    if devices.gpus_per_node:
        needed |= {"resources.gpusPerNode": devices.gpus_per_node, "resources.gpu": devices.gpu}
    return needed


_ORDER = (
    "task",
    "model",
    "tokenizer",
    "dataset",
    "mixing",
    "peft",
    "parallelism",
    "training",
    "evaluation",
    "checkpoint",
    "resources",
    "output",
)


def _manifest(name: str, fields: Mapping[str, Any], entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Sections in the order of the reference."""
    spec = nested(fields) | {"dataset": [nested(entry) for entry in entries]}
    ordered = {section: spec[section] for section in (*_ORDER, *spec) if section in spec}
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "metadata": {"name": name}, "spec": ordered}
