"""LLaMA-Factory as a trainer whose recipes can be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmtrain_operator.recipes.counterpart import Settings, is_on
from llmtrain_operator.recipes.llamafactory.datasets import datasets, named_in
from llmtrain_operator.recipes.llamafactory.keys import KEYS, PREFIXES
from llmtrain_operator.recipes.llamafactory.training import BY_WEIGHTS
from llmtrain_operator.recipes.steps import PRETRAINING, betas, global_batch
from llmtrain_operator.recipes.table import Devices, Trainer
from llmtrain_operator.recipes.values import count


def _batch(recipe: Settings, devices: Devices) -> int:
    degrees = recipe.get("tensor_model_parallel_size"), recipe.get("pipeline_model_parallel_size"), recipe.get("context_parallel_size")
    return global_batch(recipe, devices, recipe.get("per_device_train_batch_size") or 8, *degrees)


def _alpha(recipe: Settings, _: Devices) -> float | None:
    """Twice the rank, where the recipe does not say it."""
    return None if is_on(recipe.get("lora_alpha")) else 2.0 * count(recipe.get("lora_rank") or 8)


def _defaults(recipe: Settings) -> Mapping[str, Any]:
    """Where a recipe says nothing."""
    found = dict(_USUAL)
    if len(named_in(recipe.get("dataset"))) > 1 and not is_on(recipe.get("interleave_probs")):
        found["mix_strategy"] = "concat"
    if not any(is_on(recipe.get(key)) for key in ("fp16", "pure_bf16")):
        found["bf16"] = BY_WEIGHTS
    if recipe.get("stage") == "pt":
        found |= PRETRAINING
    return found


def _floor(recipe: Settings, _: Devices) -> float | None:
    """Schedules end at 0, where llmtrain's own default of task pretrain is another."""
    return 0.0 if recipe.get("stage") == "pt" and not is_on(recipe.get("lr_scheduler_kwargs")) else None


_USUAL: Mapping[str, Any] = {
    "stage": "sft",
    "finetuning_type": "lora",
    "cutoff_len": 2048,
    "per_device_train_batch_size": 8,
    "num_train_epochs": 3.0,
    "learning_rate": 5e-5,
    "lr_scheduler_type": "linear",
    "packing": False,
    "lora_rank": 8,
    "lora_target": "all",
    "gradient_checkpointing": True,
    "seed": 42,
}

LLAMA_FACTORY = Trainer(
    title="LLaMA-Factory",
    keys=KEYS,
    entry={},
    lists=(),
    deciding=("stage", "finetuning_type"),
    prefixes=PREFIXES,
    defaults=_defaults,
    datasets=datasets,
    derived={
        "training.globalBatchSize": _batch,
        "training.optimizer.betas": betas,
        "training.schedule.minRatio": _floor,
        "peft.alpha": _alpha,
    },
)
"""Its keys as of the recipes that the project publishes. Packing is on by default in its stage pt."""
