"""LLaMA-Factory as a trainer whose recipes can be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmtrain_operator.recipes.counterpart import is_on
from llmtrain_operator.recipes.llamafactory.datasets import datasets
from llmtrain_operator.recipes.llamafactory.keys import KEYS, PREFIXES
from llmtrain_operator.recipes.table import Devices, Trainer
from llmtrain_operator.recipes.values import whole
from llmtrain_operator.recipes.words import betas, global_batch


def _batch(recipe: Mapping[str, Any], devices: Devices) -> int:
    degrees = recipe.get("tensor_model_parallel_size"), recipe.get("pipeline_model_parallel_size")
    return global_batch(recipe, devices, recipe.get("per_device_train_batch_size") or 8, *degrees)


def _alpha(recipe: Mapping[str, Any], _: Devices) -> float | None:
    """Twice the rank, where the recipe does not say it."""
    return None if is_on(recipe.get("lora_alpha")) else 2.0 * whole(recipe.get("lora_rank") or 8)


LLAMA_FACTORY = Trainer(
    title="LLaMA-Factory",
    keys=KEYS,
    entry={},
    lists=(),
    deciding=("stage", "finetuning_type"),
    prefixes=PREFIXES,
    defaults={
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
    },
    datasets=datasets,
    derived={"training.globalBatchSize": _batch, "training.optimizer.betas": betas, "peft.alpha": _alpha},
)
"""Its keys as of the recipes that the project publishes. Packing is on by default in its stage pt."""
