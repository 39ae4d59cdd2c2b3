"""Axolotl's keys of batch, length, optimizer, schedule and precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmtrain_operator.recipes.counterpart import (
    Counterpart,
    RecipeKey,
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
from llmtrain_operator.recipes.values import real, whole
from llmtrain_operator.recipes.words import OPTIMIZER, SCHEDULE, precision

_BF16 = "trained weights, accumulated gradients and optimizer states stay in fp32"


def _half(value: Any) -> Told:
    return precision("fp16") if is_on(value) else Told(outcome=Counterpart.SAME, note="off in llmtrain too")


def _bf16(value: Any) -> Told:
    if is_on(value):
        return precision("bf16", _BF16)
    return precision("fp32")


def _recompute(value: Any) -> Told:
    if not is_on(value):
        return Told(outcome=Counterpart.MAPS, fields={"training.activationCheckpointing": "none"})
    told = {"training.activationCheckpointing": "full"}
    if str(value).lower() in ("true", "1"):
        return Told(outcome=Counterpart.MAPS, fields=told)
    return Told(outcome=Counterpart.DIFFERS, fields=told, note=f"{value}: activations are recomputed, not moved to host memory")


KEYS: Mapping[str, RecipeKey] = {
    "sequence_len": maps("training.sequenceLength", whole),
    "eval_sequence_len": changed("evaluation has the length of training"),
    "micro_batch_size": maps("training.microBatchSize", whole),
    "eval_batch_size": no_effect("evaluation uses the micro-batch of training"),
    "gradient_accumulation_steps": maps("training.globalBatchSize", lambda _: None, "times micro_batch_size times the replicas"),
    "num_epochs": maps("training.epochs", real),
    "max_steps": maps("training.maxSteps", whole, "instead of epochs"),
    "learning_rate": maps("training.optimizer.learningRate", real),
    "embedding_lr": cannot("all weights have one rate"),
    "lr_groups": cannot("all weights have one rate"),
    "optimizer": OPTIMIZER,
    "optim_args": cannot("only AdamW's own arguments"),
    "lr_scheduler": SCHEDULE,
    "lr_scheduler_kwargs": cannot("training.schedule has minRatio and decayRatio"),
    "warmup_steps": maps("training.schedule.warmupSteps", whole),
    "warmup_ratio": maps("training.schedule.warmupRatio", real),
    "cosine_min_lr_ratio": maps("training.schedule.minRatio", real),
    "eta_min": maps("training.schedule.minRatio", lambda _: None, "over learning_rate"),
    "weight_decay": maps("training.optimizer.weightDecay", real, "matrices only, as HF Trainer does"),
    "adam_beta1": maps("training.optimizer.betas", lambda _: None),
    "adam_beta2": maps("training.optimizer.betas", lambda _: None),
    "adam_epsilon": maps("training.optimizer.epsilon", real),
    "max_grad_norm": maps("training.gradientClipping", real),
    "bf16": RecipeKey(outcome=Counterpart.MAPS, into=("training.precision",), note=_BF16, read=_bf16),
    "bfloat16": RecipeKey(outcome=Counterpart.MAPS, into=("training.precision",), note=_BF16, read=_bf16),
    "fp16": RecipeKey(outcome=precision("fp16").outcome, note=precision("fp16").note, read=_half),
    "float16": RecipeKey(outcome=precision("fp16").outcome, note=precision("fp16").note, read=_half),
    "tf32": no_effect("matrices of fp32 are multiplied as torch's default says"),
    "fp8": switch(cannot("fp8 is not computed in")),
    "gradient_checkpointing": RecipeKey(outcome=Counterpart.MAPS, into=("training.activationCheckpointing",), read=_recompute),
    "gradient_checkpointing_kwargs.use_reentrant": no_effect("the way of recomputing changes no result"),
    "activation_offloading": switch(differs("training.activationCheckpointing", "recomputed instead of moved", lambda _: "full")),
    "sample_packing": maps("training.packing", is_on),
    "eval_sample_packing": no_effect("the loss of a sample does not depend on packing"),
    "multipack_real_batches": no_effect("packed samples do not see each other"),
    "pad_to_sequence_len": no_effect("padding is masked"),
    "group_by_length": switch(changed("samples come in shuffled order; packing avoids padding")),
    "attn_implementation": no_effect("sdpa chooses a flash kernel on a GPU"),
    "flash_attention": no_effect("sdpa chooses a flash kernel on a GPU"),
    "xformers_attention": no_effect("sdpa chooses the kernel"),
    "sdp_attention": by_itself("sdpa is the default"),
    "flex_attention": no_effect("sdpa masks packed samples"),
    "s2_attention": switch(cannot("each token attends to all before it")),
    "torch_compile": switch(maps("training.compile", lambda _: True)),
    "seed": maps("training.seed", whole),
    "noisy_embedding_alpha": switch(cannot("embeddings get no noise")),
    "neftune_noise_alpha": switch(cannot("embeddings get no noise")),
    "loss_watchdog_threshold": changed("a loss that is not a number ends the job after resilience.nonFiniteSteps; no limit of its size"),
    "loss_watchdog_patience": changed("resilience.nonFiniteSteps counts losses that are not numbers"),
    "early_stopping_patience": switch(cannot("training ends after its steps")),
}
