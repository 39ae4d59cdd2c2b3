"""Axolotl as a trainer whose recipes can be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmtrain_operator.recipes.axolotl import data, datasets, model, run, training
from llmtrain_operator.recipes.counterpart import is_on
from llmtrain_operator.recipes.flat import leaves, nested
from llmtrain_operator.recipes.table import Devices, Line, Trainer
from llmtrain_operator.recipes.translate import told
from llmtrain_operator.recipes.values import real
from llmtrain_operator.recipes.words import betas, global_batch

_LISTS = ("datasets", "pretraining_dataset", "test_datasets")


def _datasets(recipe: Mapping[str, Any], _beside: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[Line]]:
    read = {name: _read(recipe, name) for name in _LISTS}
    streamed = [entry | {"streaming": True} for entry in read["pretraining_dataset"][0]]
    return read["datasets"][0] + streamed, [line for _, lines in read.values() for line in lines]


def _read(recipe: Mapping[str, Any], name: str) -> tuple[list[dict[str, Any]], list[Line]]:
    """The entries of one list, and a line for each of their keys."""
    found, lines = list[dict[str, Any]](), list[Line]()
    for index, entry in enumerate(_entries(recipe.get(name))):
        own = [_line(name, index, path, value) for path, value in leaves(entry, data.ENTRY)]
        found.append(datasets.adapted(entry, {path: value for line in own for path, value in line.told.fields.items()}))
        lines += own
    return found, lines


def _evaluated(recipe: Mapping[str, Any], _: Devices) -> list[dict[str, Any]] | None:
    """The datasets that the recipe evaluates on."""
    return [nested(entry) for entry in _read(recipe, "test_datasets")[0]] or None


def _targets(recipe: Mapping[str, Any], _: Devices) -> list[str] | None:
    """lora_target_linear adds every linear layer to those that are named."""
    return ["all-linear"] if is_on(recipe.get("lora_target_linear")) else None


def _entries(value: Any) -> list[Mapping[str, Any]]:
    """A list of datasets; recipes also write the path of one alone."""
    if value is None:
        return []
    each = value if isinstance(value, list) else [value]
    return [entry if isinstance(entry, Mapping) else {"path": entry, "type": "completion"} for entry in each]


def _line(name: str, index: int, path: str, value: Any) -> Line:
    line = told(_entry_key(path), path, value)
    return Line(key=f"{name}[{index}].{path}", value=value, told=line.told)


def _entry_key(path: str) -> Any:
    return AXOLOTL.entry.get(path) or AXOLOTL.key(f"datasets[].{path}")


def _batch(recipe: Mapping[str, Any], devices: Devices) -> int:
    context = recipe.get("context_parallel_size") or recipe.get("sequence_parallel_degree")
    return global_batch(recipe, devices, recipe.get("micro_batch_size") or 1, recipe.get("tensor_parallel_size"), context)


def _floor(recipe: Mapping[str, Any], _: Devices) -> float | None:
    """The final rate as a share of the peak."""
    return real(recipe["eta_min"]) / real(recipe.get("learning_rate")) if is_on(recipe.get("eta_min")) else None


AXOLOTL = Trainer(
    title="Axolotl",
    keys={**model.KEYS, **training.KEYS, **data.KEYS, **run.KEYS},
    entry=data.ENTRY,
    lists=_LISTS,
    deciding=("rl", "reward_model", "adapter", "model_type", "processor_type"),
    prefixes=run.PREFIXES,
    defaults={
        "sequence_len": 512,
        "micro_batch_size": 1,
        "num_epochs": 1.0,
        "sample_packing": False,
        "gradient_checkpointing": False,
        "lr_scheduler": "cosine",
        "weight_decay": 0.0,
        "seed": 42,
        "lora_dropout": 0.0,
    },
    datasets=_datasets,
    derived={
        "training.globalBatchSize": _batch,
        "training.optimizer.betas": betas,
        "training.schedule.minRatio": _floor,
        "evaluation.dataset": _evaluated,
        "peft.targetModules": _targets,
        "task": lambda recipe, _: "pretrain" if recipe.get("pretraining_dataset") else None,
    },
)
"""Its keys as of the recipes that the project publishes."""
