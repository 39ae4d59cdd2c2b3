"""Axolotl as a trainer whose recipes can be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmtrain_operator.recipes.axolotl import data, datasets, entry, model, run, training
from llmtrain_operator.recipes.counterpart import Counterpart, RecipeKey, Settings, Told, by_itself, is_on
from llmtrain_operator.recipes.flat import leaves
from llmtrain_operator.recipes.steps import PRETRAINING, betas, global_batch
from llmtrain_operator.recipes.table import Beside, Datasets, Devices, Line, Trainer
from llmtrain_operator.recipes.translate import told
from llmtrain_operator.recipes.values import each, real

_LISTS = ("datasets", "pretraining_dataset", "test_datasets")


def _datasets(recipe: Settings, _: Beside) -> Datasets:
    read = {name: _read(recipe, name) for name in _LISTS}
    streamed = [one | {"streaming": True} for one in read["pretraining_dataset"][0]]
    return Datasets(
        trained=read["datasets"][0] + streamed,
        evaluated=read["test_datasets"][0],
        lines=[line for _, lines in read.values() for line in lines],
    )


def _read(recipe: Settings, name: str) -> tuple[list[dict[str, Any]], list[Line]]:
    """The entries of one list, and a line for each of their keys."""
    found, lines = list[dict[str, Any]](), list[Line]()
    for index, one in enumerate(_entries(recipe.get(name))):
        beside = {**recipe, entry.ENTRY_OF: one}
        own = [_line(path, value, beside) for path, value in leaves(one, entry.ENTRY)]
        fields = {path: value for line in own for path, value in line.told.fields.items()}
        try:
            found += datasets.expanded(one, fields)
        except ValueError as error:
            own.append(Line(key="path", value=one.get("path"), told=Told(outcome=Counterpart.CANNOT, note=str(error))))
            found.append(fields)
        lines += [Line(key=f"{name}[{index}].{line.key}", value=line.value, told=line.told) for line in own]
    return found, lines


def _entries(value: Any) -> list[Mapping[str, Any]]:
    """A list of datasets; recipes also write the path of one alone."""
    return [one if isinstance(one, Mapping) else {"path": one, "type": "completion"} for one in each(value)]


def _line(path: str, value: Any, beside: Settings) -> Line:
    return told(_entry_key(path, value), path, value, beside)


def _entry_key(path: str, value: Any) -> RecipeKey:
    if path in entry.ENTRY:
        return entry.ENTRY[path]
    if path.startswith("message_property_mappings.") and path.endswith(f".{value}"):
        return by_itself("a turn's key of the same name")
    return AXOLOTL.key(f"datasets[].{path}")


def _targets(recipe: Settings, _: Devices) -> list[str] | None:
    """lora_target_linear adds every linear layer to those that are named."""
    return ["all-linear"] if is_on(recipe.get("lora_target_linear")) else None


def _batch(recipe: Settings, devices: Devices) -> int:
    context = recipe.get("context_parallel_size") or recipe.get("sequence_parallel_degree")
    return global_batch(recipe, devices, recipe.get("micro_batch_size") or 1, recipe.get("tensor_parallel_size"), context)


def _floor(recipe: Settings, _: Devices) -> float | None:
    """The final rate as a share of the peak."""
    return real(recipe["eta_min"]) / real(recipe.get("learning_rate")) if is_on(recipe.get("eta_min")) else None


def _mixing(recipe: Settings, _: Devices) -> str | None:
    """Datasets are concatenated; streamed ones have no known end."""
    several = len(_read(recipe, "datasets")[0]) > 1
    return "concat" if several and not is_on(recipe.get("streaming")) and not recipe.get("pretraining_dataset") else None


def _chat_template(recipe: Settings, _: Devices) -> str | None:
    return "alpaca" if entry.has_alpaca_alone(recipe) else None


def _task(recipe: Settings, _: Devices) -> str | None:
    return "pretrain" if recipe.get("pretraining_dataset") else None


def _defaults(recipe: Settings) -> Mapping[str, Any]:
    """Where a recipe says nothing."""
    found = dict(_USUAL)
    if recipe.get("warmup_steps") is None and recipe.get("warmup_ratio") is None:
        found["warmup_ratio"] = 0.03
    if recipe.get("pretraining_dataset"):
        found |= {**PRETRAINING, "cosine_min_lr_ratio": 0.0}
    return found


_USUAL: Mapping[str, Any] = {
    "sequence_len": 512,
    "micro_batch_size": 1,
    "num_epochs": 1.0,
    "sample_packing": False,
    "gradient_checkpointing": False,
    "lr_scheduler": "cosine",
    "weight_decay": 0.0,
    "seed": 42,
    "lora_dropout": 0.0,
}

AXOLOTL = Trainer(
    title="Axolotl",
    keys={**model.KEYS, **training.KEYS, **data.KEYS, **run.KEYS},
    entry=entry.ENTRY,
    lists=_LISTS,
    deciding=("rl", "reward_model", "adapter", "model_type", "processor_type"),
    prefixes=run.PREFIXES,
    defaults=_defaults,
    datasets=_datasets,
    derived={
        "training.globalBatchSize": _batch,
        "training.optimizer.betas": betas,
        "training.schedule.minRatio": _floor,
        "peft.targetModules": _targets,
        "tokenizer.chatTemplate": _chat_template,
        "mixing": _mixing,
        "task": _task,
    },
)
"""Its keys as of the recipes that the project publishes."""
