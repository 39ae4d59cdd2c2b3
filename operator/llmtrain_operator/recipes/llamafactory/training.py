"""LLaMA-Factory's keys of batch, length, optimizer, schedule and precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmtrain_operator.recipes.counterpart import (
    Counterpart,
    RecipeKey,
    Settings,
    Told,
    cannot,
    changed,
    is_on,
    maps,
    no_effect,
    switch,
)
from llmtrain_operator.recipes.held_out import held_out
from llmtrain_operator.recipes.llamafactory.datasets import named_in
from llmtrain_operator.recipes.steps import MAX_STEPS, SCHEDULE_ARGUMENTS, WARMUP, cadence
from llmtrain_operator.recipes.values import count, real, whole
from llmtrain_operator.recipes.words import OPTIMIZER, SCHEDULE, precision

BY_WEIGHTS = "by the weights"
"""Stands for a recipe that does not say what is computed in."""

_BY_WEIGHTS = "LLaMA-Factory computes in the type of the weights' files"


def _bf16(value: Any, recipe: Settings) -> Told:
    """bf16, as either key says it. Where no key does, the weights' files decide."""
    if value == BY_WEIGHTS:
        return Told(outcome=Counterpart.DIFFERS, fields={"training.precision": "bf16"}, note=_BY_WEIGHTS)
    if is_on(value):
        return precision("bf16")
    others = [key for key in ("pure_bf16", "fp16") if is_on(recipe.get(key))]
    if others:
        return Told(outcome=Counterpart.NO_EFFECT, note=f"{others[0]} says it")
    note = f"{_BY_WEIGHTS}; training.precision: bf16 where those are bf16"
    return Told(outcome=Counterpart.DIFFERS, fields={"training.precision": "fp32"}, note=note)


def _fp16(_: Any, recipe: Settings) -> Told:
    if is_on(recipe.get("pure_bf16")) or (is_on(recipe.get("bf16")) and recipe.get("bf16") != BY_WEIGHTS):
        return Told(outcome=Counterpart.NO_EFFECT, note="bf16 counts")
    return precision("fp16")


def _pure(*_: Any) -> Told:
    return Told(
        outcome=Counterpart.DIFFERS, fields={"training.precision": "bf16"}, note="trained weights and optimizer states stay in fp32"
    )


def _packing(_: Any, recipe: Settings) -> Told:
    """neat_packing turns packing on, and keeps samples apart."""
    packs = is_on(recipe.get("packing")) or is_on(recipe.get("neat_packing"))
    seen = packs and not is_on(recipe.get("neat_packing"))
    note = "packed samples do not see each other, as with neat_packing" if seen else ""
    return Told(outcome=Counterpart.DIFFERS if seen else Counterpart.MAPS, fields={"training.packing": packs}, note=note)


def _held_out(value: Any, recipe: Settings) -> Told:
    return held_out(value, len(named_in(recipe.get("dataset"))))


def _recompute(_: Any, recipe: Settings) -> Told:
    recomputes = is_on(recipe.get("gradient_checkpointing", True)) and not is_on(recipe.get("disable_gradient_checkpointing"))
    return Told(outcome=Counterpart.MAPS, fields={"training.activationCheckpointing": "full" if recomputes else "none"})


_RECOMPUTE = RecipeKey(outcome=Counterpart.MAPS, into=("training.activationCheckpointing",), read=_recompute)
_PACKING = RecipeKey(outcome=Counterpart.MAPS, into=("training.packing",), read=_packing)
_STEPS = {key: cadence(into) for key, into in {"logging_steps": "training.logEverySteps", "eval_steps": "evaluation.everySteps"}.items()}

TRAINING: Mapping[str, RecipeKey] = {
    "cutoff_len": maps("training.sequenceLength", count),
    "packing": _PACKING,
    "neat_packing": _PACKING,
    "streaming": switch(maps("dataset[].streaming", lambda _: True)),
    "val_size": RecipeKey(outcome=Counterpart.MAPS, into=("evaluation.split",), read=_held_out),
    "eval_on_each_dataset": switch(changed("the datasets of an evaluation are one loss")),
    "logging_steps": RecipeKey(outcome=Counterpart.MAPS, into=("training.logEverySteps",), read=_STEPS["logging_steps"]),
    "eval_steps": RecipeKey(outcome=Counterpart.MAPS, into=("evaluation.everySteps",), read=_STEPS["eval_steps"]),
    "per_device_train_batch_size": maps("training.microBatchSize", count),
    "per_device_eval_batch_size": no_effect("evaluation uses the micro-batch of training"),
    "gradient_accumulation_steps": maps("training.globalBatchSize", lambda _: None, "times the batch per device times the replicas"),
    "learning_rate": maps("training.optimizer.learningRate", real),
    "num_train_epochs": maps("training.epochs", real),
    "max_steps": MAX_STEPS,
    "lr_scheduler_type": SCHEDULE,
    "lr_scheduler_kwargs": SCHEDULE_ARGUMENTS,
    **WARMUP,
    "optim": OPTIMIZER,
    "optim_args": cannot("only AdamW's own arguments"),
    "weight_decay": maps("training.optimizer.weightDecay", real, "matrices only, as HF Trainer does"),
    "max_grad_norm": maps("training.gradientClipping", real),
    "adam_beta1": maps("training.optimizer.betas", lambda _: None),
    "adam_beta2": maps("training.optimizer.betas", lambda _: None),
    "adam_epsilon": maps("training.optimizer.epsilon", real),
    "bf16": RecipeKey(outcome=Counterpart.MAPS, into=("training.precision",), read=_bf16),
    "fp16": switch(RecipeKey(outcome=precision("fp16").outcome, note=precision("fp16").note, read=_fp16)),
    "pure_bf16": switch(RecipeKey(outcome=Counterpart.DIFFERS, into=("training.precision",), note=_pure().note, read=_pure)),
    "tf32": switch(changed("bf16 needs none; matrices of fp32 are multiplied in fp32: slower, and exact")),
    "fp8": switch(cannot("fp8 is not computed in")),
    "fp8_backend": cannot("fp8 is not computed in"),
    "gradient_checkpointing": _RECOMPUTE,
    "disable_gradient_checkpointing": _RECOMPUTE,
    "gradient_checkpointing_kwargs": no_effect("the way of recomputing changes no result"),
    "group_by_length": switch(changed("samples come in shuffled order; packing avoids padding")),
    "torch_compile": switch(maps("training.compile", lambda _: True)),
    "neftune_noise_alpha": switch(cannot("embeddings get no noise")),
    "seed": maps("training.seed", whole),
    "data_seed": no_effect("training.seed gives the order of the data"),
}
