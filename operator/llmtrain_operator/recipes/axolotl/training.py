"""Axolotl's keys of batch, length, optimizer, schedule and precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmtrain_operator.recipes.counterpart import (
    Counterpart,
    RecipeKey,
    Settings,
    Told,
    by_itself,
    cannot,
    changed,
    differs,
    is_on,
    maps,
    no_effect,
    switch,
)
from llmtrain_operator.recipes.steps import MAX_STEPS, SCHEDULE_ARGUMENTS, WARMUP
from llmtrain_operator.recipes.values import count, real, share, text, whole
from llmtrain_operator.recipes.words import OPTIMIZER, SCHEDULE, precision

_EXACT = "matrices of fp32 are multiplied in fp32: slower, and exact"
_BF16 = "trained weights, accumulated gradients and optimizer states stay in fp32"


def _bf16(value: Any, recipe: Settings) -> Told:
    """bf16, as either key says it; without any kind of half precision fp32."""
    if is_on(value):
        return precision("bf16", _BF16)
    others = [key for key in ("bf16", "bfloat16", "fp16", "float16") if is_on(recipe.get(key))]
    if others:
        return Told(outcome=Counterpart.NO_EFFECT, note=f"{others[0]} says it")
    return precision("fp32")


def _half(_: Any, recipe: Settings) -> Told:
    if is_on(recipe.get("bf16")) or is_on(recipe.get("bfloat16")):
        return Told(outcome=Counterpart.NO_EFFECT, note="bf16 counts")
    return precision("fp16")


def _tf32(_: Any, recipe: Settings) -> Told:
    if is_on(recipe.get("bf16", "auto")):
        return Told(outcome=Counterpart.SAME, note="matrices are multiplied in bf16")
    return Told(outcome=Counterpart.DIFFERS, note=_EXACT)


def _attention(value: Any, _: Settings) -> Told:
    """The kernel of attention by transformers' word."""
    word = text(value)
    if word in ("sdpa", "eager"):
        return Told(outcome=Counterpart.MAPS, fields={"model.attention": word})
    if word.startswith("flash_attention"):
        return Told(outcome=Counterpart.MAPS, fields={"model.attention": "sdpa"}, note="sdpa chooses a flash kernel on a GPU")
    return Told(outcome=Counterpart.NO_EFFECT, note="sdpa chooses the kernel, and masks packed samples")


_ALSO = (
    "gradient_checkpointing",
    "activation_offloading",
    "fsdp_config.activation_checkpointing",
    "fsdp_config.fsdp_activation_checkpointing",
)


def _recompute(value: Any, recipe: Settings) -> Told:
    """Whether activations are recomputed, which each of several keys may ask for."""
    if not is_on(value):
        others = [key for key in _ALSO if is_on(recipe.get(key))]
        if others:
            return Told(outcome=Counterpart.NO_EFFECT, note=f"{others[0]} asks for it")
        return Told(outcome=Counterpart.MAPS, fields={"training.activationCheckpointing": "none"})
    told = {"training.activationCheckpointing": "full"}
    if str(value).lower() in ("true", "1"):
        return Told(outcome=Counterpart.MAPS, fields=told)
    return Told(outcome=Counterpart.DIFFERS, fields=told, note=f"{value}: activations are recomputed, not moved to host memory")


KEYS: Mapping[str, RecipeKey] = {
    "sequence_len": maps("training.sequenceLength", count),
    "eval_sequence_len": changed("evaluation has the length of training"),
    "micro_batch_size": maps("training.microBatchSize", count),
    "eval_batch_size": no_effect("evaluation uses the micro-batch of training"),
    "gradient_accumulation_steps": maps("training.globalBatchSize", lambda _: None, "times micro_batch_size times the replicas"),
    "num_epochs": maps("training.epochs", real),
    "max_steps": MAX_STEPS,
    "learning_rate": maps("training.optimizer.learningRate", real),
    "embedding_lr": cannot("all weights have one rate"),
    "lr_groups": cannot("all weights have one rate"),
    "optimizer": OPTIMIZER,
    "optim_args": cannot("only AdamW's own arguments"),
    "lr_scheduler": SCHEDULE,
    "lr_scheduler_kwargs": SCHEDULE_ARGUMENTS,
    **WARMUP,
    "cosine_min_lr_ratio": maps("training.schedule.minRatio", share),
    "cosine_constant_lr_ratio": cannot("a cosine falls until the last step; schedule wsd stays constant, then decays"),
    "eta_min": maps("training.schedule.minRatio", lambda _: None, "over learning_rate"),
    "weight_decay": maps("training.optimizer.weightDecay", real, "matrices only, as HF Trainer does"),
    "adam_beta1": maps("training.optimizer.betas", lambda _: None),
    "adam_beta2": maps("training.optimizer.betas", lambda _: None),
    "adam_epsilon": maps("training.optimizer.epsilon", real),
    "max_grad_norm": maps("training.gradientClipping", real),
    "bf16": RecipeKey(outcome=Counterpart.MAPS, into=("training.precision",), note=_BF16, read=_bf16),
    "bfloat16": RecipeKey(outcome=Counterpart.MAPS, into=("training.precision",), note=_BF16, read=_bf16),
    "fp16": switch(RecipeKey(outcome=precision("fp16").outcome, note=precision("fp16").note, read=_half)),
    "float16": switch(RecipeKey(outcome=precision("fp16").outcome, note=precision("fp16").note, read=_half)),
    "float32": switch(no_effect("bf16 decides")),
    "tf32": switch(RecipeKey(outcome=Counterpart.DIFFERS, note=f"bf16 needs none; {_EXACT}", read=_tf32)),
    "fp8": switch(cannot("fp8 is not computed in")),
    "gradient_checkpointing": RecipeKey(outcome=Counterpart.MAPS, into=("training.activationCheckpointing",), read=_recompute),
    "gradient_checkpointing_kwargs.use_reentrant": no_effect("the way of recomputing changes no result"),
    "activation_offloading": switch(differs("training.activationCheckpointing", "recomputed instead of moved", lambda _: "full")),
    "sample_packing": maps("training.packing", is_on),
    "eval_sample_packing": by_itself("evaluation packs as training does; the loss of a sample does not depend on it"),
    "multipack_real_batches": no_effect("packed samples do not see each other"),
    "pad_to_sequence_len": by_itself("every row has sequenceLength tokens, and padding is masked"),
    "group_by_length": switch(changed("samples come in shuffled order; packing avoids padding")),
    "attn_implementation": RecipeKey(
        outcome=Counterpart.MAPS, into=("model.attention",), note="sdpa chooses a flash kernel on a GPU", read=_attention
    ),
    "flash_attention": switch(by_itself("sdpa, the default, chooses a flash kernel on a GPU")),
    "eager_attention": switch(maps("model.attention", lambda _: "eager")),
    "xformers_attention": no_effect("sdpa chooses the kernel"),
    "sdp_attention": by_itself("sdpa is the default"),
    "flex_attention": no_effect("sdpa masks packed samples"),
    "sample_packing_group_size": no_effect("packing has its own order"),
    "sample_packing_bin_size": no_effect("a row takes as many samples as it has room for"),
    "pretrain_multipack_attn": changed("documents of task pretrain see each other within a row"),
    "pretraining_sample_concatenation": by_itself("documents follow each other in a row"),
    "gradient_checkpointing_kwargs": no_effect("the way of recomputing changes no result"),
    "torch_empty_cache_steps": no_effect("when memory is freed changes no result"),
    "gc_steps": no_effect("when memory is freed changes no result"),
    "s2_attention": switch(cannot("each token attends to all before it")),
    "torch_compile": switch(maps("training.compile", lambda _: True)),
    "seed": maps("training.seed", whole),
    "noisy_embedding_alpha": switch(cannot("embeddings get no noise")),
    "neftune_noise_alpha": switch(cannot("embeddings get no noise")),
    "loss_watchdog_threshold": changed("a loss that is not a number ends the job after resilience.nonFiniteSteps; no limit of its size"),
    "loss_watchdog_patience": changed("resilience.nonFiniteSteps counts losses that are not numbers"),
    "early_stopping_patience": switch(cannot("training ends after its steps")),
}
