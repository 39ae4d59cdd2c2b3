"""A recipe as a manifest, and a line for each of its keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from llmtrain_operator.api.job.spec import GROUP, KIND, VERSION
from llmtrain_operator.recipes.counterpart import Counterpart, RecipeKey, Told
from llmtrain_operator.recipes.flat import leaves, nested
from llmtrain_operator.recipes.table import Devices, Line, Trainer


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """What a recipe became."""

    manifest: dict[str, Any]
    lines: tuple[Line, ...]
    """In the recipe's order, then the trainer's defaults."""


def translate(trainer: Trainer, recipe: Mapping[str, Any], *, name: str, devices: Devices, beside: Mapping[str, Any]) -> Translation:
    """beside: facts that the trainer keeps next to its recipes, such as its register of datasets; empty if there are none."""
    written = {path: value for path, value in leaves(recipe, trainer.keys) if path not in trainer.lists}
    defaults = {path: value for path, value in trainer.defaults.items() if written.get(path) is None}
    lines = [told(trainer.key(path), path, value) for path, value in (written | defaults).items()]
    entries, entry_lines = trainer.datasets(recipe, beside)
    fields = {path: value for line in lines for path, value in line.told.fields.items()}
    made = [_made(path, make, recipe, devices) for path, make in trainer.derived.items()]
    lines += [line for line in made if line.told.outcome is Counterpart.CANNOT]
    fields = _for_all_datasets(fields, entries) | {path: value for line in made for path, value in line.told.fields.items()}
    fields |= _resources(devices)
    spec = _settled(fields) | {"dataset": [nested(entry) for entry in entries]}
    manifest = {"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "metadata": {"name": name}, "spec": _ordered(spec)}
    return Translation(manifest=manifest, lines=(*_marked(lines, defaults), *entry_lines))


def told(key: RecipeKey, path: str, value: Any) -> Line:
    """What a value makes of a key; a value that it does not have cannot be said. Null is what a recipe leaves open."""
    if value is None:
        return Line(key=path, value=value, told=Told(outcome=Counterpart.SAME, note="left empty"))
    try:
        return Line(key=path, value=value, told=key.read(value))
    except (ValueError, TypeError, ArithmeticError) as error:
        return Line(key=path, value=value, told=Told(outcome=Counterpart.CANNOT, note=str(error)))


def _made(path: str, make: Callable[[Mapping[str, Any], Devices], Any], recipe: Mapping[str, Any], devices: Devices) -> Line:
    """A field that several keys make together; a key of them that is no number leaves it out."""
    try:
        value = make(recipe, devices)
    except (ValueError, TypeError, ArithmeticError) as error:
        return Line(key=f"{path} (of several keys)", value=None, told=Told(outcome=Counterpart.CANNOT, note=str(error)))
    return Line(key=path, value=value, told=Told(outcome=Counterpart.MAPS, fields={} if value is None else {path: value}))


def _for_all_datasets(fields: Mapping[str, Any], entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Fields of the whole recipe that llmtrain has in each dataset go there; the others are returned."""
    for path, value in fields.items():
        if path.startswith("dataset[]."):
            for entry in entries:
                entry.setdefault(path.removeprefix("dataset[]."), value)
    return {path: value for path, value in fields.items() if not path.startswith("dataset[].")}


def _settled(fields: dict[str, Any]) -> dict[str, Any]:
    """As a tree, without what contradicts: steps win over epochs, adapters are exported as such, settings of none are left out."""
    found = dict(fields)
    if "training.maxSteps" in found:
        found.pop("training.epochs", None)
    if "peft.method" not in found:
        found = {path: value for path, value in found.items() if not path.startswith("peft.")}
    elif "output.export" not in found:
        found["output.export"] = ["adapter"]
    if "training.schedule.warmupSteps" in found:
        found.pop("training.schedule.warmupRatio", None)
    if "evaluation.split" not in found and "evaluation.dataset" not in found:
        found = {path: value for path, value in found.items() if not path.startswith("evaluation.")}
    if "task" not in found:
        found["task"] = "sft"
    return nested(found)


def _resources(devices: Devices) -> dict[str, Any]:
    told: dict[str, Any] = {"resources.nodes": devices.nodes}
    if devices.gpus_per_node:
        told |= {"resources.gpusPerNode": devices.gpus_per_node, "resources.gpu": devices.gpu}
    return told


_ORDER = ("task", "model", "tokenizer", "dataset", "peft", "parallelism", "training", "evaluation", "checkpoint", "resources", "output")


def _ordered(spec: dict[str, Any]) -> dict[str, Any]:
    """Sections in the order of the reference."""
    return {name: spec[name] for name in (*_ORDER, *(name for name in spec if name not in _ORDER)) if name in spec}


def _marked(lines: list[Line], defaults: Mapping[str, Any]) -> list[Line]:
    return [line for line in lines if line.key not in defaults] + [
        Line(key=f"{line.key} (its default)", value=line.value, told=line.told) for line in lines if line.key in defaults
    ]
