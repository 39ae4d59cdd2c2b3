"""LLaMA-Factory's keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmtrain_operator.manifest.suggestions import shown
from llmtrain_operator.recipes.counterpart import (
    OFF,
    Counterpart,
    RecipeKey,
    Settings,
    Told,
    by_itself,
    cannot,
    changed,
    is_on,
    maps,
    no_effect,
    switch,
)
from llmtrain_operator.recipes.llamafactory.datasets import named_in, probabilities
from llmtrain_operator.recipes.llamafactory.training import TRAINING
from llmtrain_operator.recipes.sharding import DEEPSPEED, FSDP, RESHARD
from llmtrain_operator.recipes.steps import cadence, keep
from llmtrain_operator.recipes.values import count, path, place, real, text
from llmtrain_operator.recipes.words import adapter, of_variant, targets, task, variant
from llmtrain_trainer.config.tables.chat_templates import CHAT_TEMPLATES

_LOGS = no_effect("logs: metrics are in metrics.jsonl, the report and Prometheus")
_BASE = "the frozen weights are not quantised: more memory, and no rounding of the base"
_IMAGES = by_itself("models of text have none")
_STAGES = {"pt": "pretrain", "sft": "sft", "rm": "reward", "dpo": "dpo", "kto": "kto", "ppo": "ppo"}
_LOSSES = {"sigmoid": "sigmoid", "hinge": "hinge", "ipo": "ipo"}


def _stage(value: Any, _: Settings) -> Told:
    return task(_STAGES.get(str(value), str(value)))


def method(recipe: Settings) -> str | None:
    """The adapter method that a recipe trains."""
    return variant(str(recipe.get("finetuning_type")) == "lora", {"dora": recipe.get("use_dora"), "rslora": recipe.get("use_rslora")})


def _kind(value: Any, recipe: Settings) -> Told:
    if value == "full":
        return Told(outcome=Counterpart.SAME, note="all weights are trained")
    return adapter(method(recipe) or text(value))


_FROZEN = "weights are trained all, or as adapters"


def _frozen(_: Any, recipe: Settings) -> Told:
    if str(recipe.get("finetuning_type")) != "freeze":
        return Told(outcome=Counterpart.NO_EFFECT, note="read by finetuning_type freeze alone")
    return Told(outcome=Counterpart.CANNOT, note=_FROZEN)


def _template(value: Any, _: Settings) -> Told:
    word = text(value)
    if not is_on(word):
        return OFF
    if word in CHAT_TEMPLATES:
        return Told(outcome=Counterpart.MAPS, fields={"tokenizer.chatTemplate": word})
    note = f"{shown(word, 40)}: the tokenizer's own chat template is used; tokenizer.chatTemplate names another, or holds a Jinja text"
    return Told(outcome=Counterpart.DIFFERS, note=note)


def _names(value: Any) -> None:
    """Raises ValueError where no dataset is named."""
    if not named_in(value):
        raise ValueError("names of datasets are expected")


def _mixing(value: Any, recipe: Settings) -> Told:
    """How several datasets are mixed."""
    word = text(value)
    if word not in _MIXINGS:
        raise ValueError(f"{', '.join(_MIXINGS)} are known")
    if len(named_in(recipe.get("dataset"))) < 2:
        return Told(outcome=Counterpart.NO_EFFECT, note="there is one dataset")
    if is_on(recipe.get("streaming")):
        return Told(outcome=Counterpart.DIFFERS, note="streamed datasets are drawn by weight, in turns: their ends are not known")
    note = "each row once, but shuffled together" if word == "interleave_once" else ""
    return Told(outcome=Counterpart.DIFFERS if note else Counterpart.MAPS, fields={"mixing": _MIXINGS[word]}, note=note)


_MIXINGS = {"concat": "concat", "interleave_under": "under", "interleave_over": "over", "interleave_once": "concat"}


def _probabilities(_: Any, recipe: Settings) -> Told:
    """Weights of the datasets."""
    weights = probabilities(recipe)
    strategy = str(recipe.get("mix_strategy") or "concat")
    if strategy == "interleave_once":
        return Told(outcome=Counterpart.DIFFERS, note="each row is taken once: mixing concat has no weights")
    note = "" if strategy.startswith("interleave") else "mix_strategy concat takes none: datasets are drawn by these weights"
    return Told(
        outcome=Counterpart.DIFFERS if note else Counterpart.MAPS,
        note=note or f"dataset[].weight: {', '.join(f'{each:g}' for each in weights)}",
    )


def _preference_loss(value: Any, _: Settings) -> Told:
    word = text(value)
    if word in ("orpo", "simpo"):
        return task(word)
    return task("dpo", training__dpo__loss=_LOSSES[word]) if word in _LOSSES else Told(outcome=Counterpart.CANNOT, note=f"no loss {word}")


def _attention(value: Any, _: Settings) -> Told:
    word = text(value)
    if word in ("disabled", "False"):
        return Told(outcome=Counterpart.MAPS, fields={"model.attention": "eager"})
    if word in ("auto", "sdpa", "fa2", "fa3"):
        return Told(outcome=Counterpart.MAPS, fields={"model.attention": "sdpa"}, note="sdpa chooses a flash kernel on a GPU")
    raise ValueError("auto, disabled, sdpa, fa2 and fa3 are known")


KEYS: Mapping[str, RecipeKey] = {
    **TRAINING,
    "model_revision": maps("model.revision", text),
    "train_from_scratch": switch(maps("model.init", lambda _: "random")),
    "finetuning_type": RecipeKey(outcome=Counterpart.MAPS, into=("peft.method",), read=_kind),
    "use_rslora": of_variant("rslora", method),
    "use_dora": of_variant("dora", method),
    "lora_rank": maps("peft.rank", count),
    "lora_target": maps("peft.targetModules", targets),
    "freeze_trainable_layers": RecipeKey(outcome=Counterpart.CANNOT, note=_FROZEN, read=_frozen),
    "freeze_trainable_modules": RecipeKey(outcome=Counterpart.CANNOT, note=_FROZEN, read=_frozen),
    "freeze_extra_modules": RecipeKey(outcome=Counterpart.CANNOT, note=_FROZEN, read=_frozen),
    "default_system": switch(maps("dataset[].system", text)),
    "dataset": maps("dataset", _names, "each name of dataset_info.json is an entry"),
    "eval_dataset": maps("evaluation.dataset", _names, "each name of dataset_info.json is an entry"),
    "mix_strategy": RecipeKey(outcome=Counterpart.MAPS, into=("mixing",), read=_mixing),
    "interleave_probs": RecipeKey(outcome=Counterpart.MAPS, into=("dataset[].weight",), read=_probabilities),
    "buffer_size": no_effect("streamed rows are shuffled in a bounded buffer"),
    "max_samples": switch(maps("dataset[].maxSamples", count)),
    "do_eval": switch(by_itself("evaluation is a section of the job")),
    "preprocessing_num_workers": by_itself("rows are tokenised on every core"),
    "preprocessing_batch_size": no_effect("how many rows are prepared at once changes none of them"),
    "dataloader_num_workers": by_itself("rows are tokenised before training, so that reading them needs no workers"),
    "dataloader_pin_memory": no_effect("how rows are read changes none of them"),
    "overwrite_cache": by_itself("prepared rows are cached by what made them, so that they are never stale"),
    "tokenized_path": by_itself("prepared rows are cached by what made them"),
    "media_dir": _IMAGES,
    "data_shared_file_system": no_effect("where rows are cached changes none of them"),
    "ignore_pad_token_for_loss": by_itself("padding is never learned"),
    "remove_unused_columns": by_itself("a column with values that nobody reads is told"),
    "preserve_thinking": switch(changed("the chat template decides what becomes of reasoning")),
    "tool_format": changed("the chat template writes tools and their calls"),
    "split_special_tokens": switch(by_itself("text that spells a control token is encoded as text: dataset[].controlTokens")),
    "resize_vocab": switch(changed("the vocabulary of the model's files is trained")),
    "add_tokens": cannot("tokens are not added to a tokenizer: add them to its files, whose new rows are trained"),
    "add_special_tokens": cannot("tokens are not added to a tokenizer: add them to its files, whose new rows are trained"),
    "use_fast_tokenizer": by_itself("tokenizer.json is read by the tokenizers library"),
    "cache_dir": no_effect("where files are cached changes none of them"),
    "hf_hub_token": no_effect("the environment holds the token of the hub"),
    "low_cpu_mem_usage": by_itself("each rank reads only its own shards"),
    "rope_scaling": cannot("positions are those of config.json: write rope_scaling there"),
    "shift_attn": cannot("each token attends to all before it"),
    "moe_aux_loss_coef": cannot("router losses are those of config.json: write router_aux_loss_coef there"),
    "upcast_layernorm": by_itself("weights are in fp32"),
    "use_unsloth": switch(no_effect("a kernel of the same arithmetic")),
    "use_unsloth_gc": switch(changed("activations are recomputed, not moved to host memory")),
    "use_reentrant_gc": no_effect("the way of recomputing changes no result"),
    "use_galore": cannot("gradients are not projected"),
    "use_apollo": cannot("gradients are not projected"),
    "use_badam": cannot("all trained weights are updated in each step"),
    "flash_attn": RecipeKey(
        outcome=Counterpart.MAPS, into=("model.attention",), note="sdpa chooses a flash kernel on a GPU", read=_attention
    ),
    "create_new_adapter": switch(by_itself("a new adapter is trained")),
    "loraplus_lr_embedding": no_effect("embeddings have no adapters"),
    "resume_from_checkpoint": changed("checkpoint.resume names a step of its destination; without it the newest verified one is resumed"),
    "save_steps": RecipeKey(outcome=Counterpart.MAPS, into=("checkpoint.every.steps",), read=cadence("checkpoint.every.steps")),
    "save_total_limit": switch(maps("checkpoint.keep", keep, "at least 2")),
    "save_safetensors": by_itself("exports are safetensors"),
    "load_best_model_at_end": cannot("the last step is exported"),
    "metric_for_best_model": no_effect("the last step is exported"),
    "greater_is_better": no_effect("the last step is exported"),
    "predict_with_generate": cannot("evaluation is the loss on answers"),
    "compute_accuracy": cannot("evaluation is the loss on answers"),
    "push_to_hub": cannot("exports are not pushed to a hub"),
    "hub_model_id": cannot("exports are not pushed to a hub"),
    "export_dir": changed("output.destination holds exports"),
    "deepspeed": DEEPSPEED,
    "fsdp": FSDP,
    "fsdp_config.reshard_after_forward": RESHARD,
    "fsdp_config.fsdp_reshard_after_forward": RESHARD,
    "ddp_timeout": by_itself("data is prepared before the ranks start; resilience.hang watches for hangs"),
    "ddp_find_unused_parameters": no_effect("all weights take part in each step"),
    "tensor_model_parallel_size": switch(maps("parallelism.tensor", count)),
    "pipeline_model_parallel_size": switch(maps("parallelism.pipeline", count)),
    "expert_model_parallel_size": switch(maps("parallelism.expert", count)),
    "context_parallel_size": switch(maps("parallelism.context", count)),
    "model_name_or_path": maps("model.source", place),
    "adapter_name_or_path": switch(cannot("training does not start from an adapter")),
    "trust_remote_code": switch(changed("code of a repository is never run; the plan says whether an engine knows the architecture")),
    "stage": RecipeKey(outcome=Counterpart.MAPS, into=("task",), read=_stage),
    "do_train": by_itself("a job trains"),
    "do_predict": switch(cannot("a job does not write answers")),
    "template": RecipeKey(outcome=Counterpart.MAPS, into=("tokenizer.chatTemplate",), read=_template),
    "enable_thinking": changed("reasoning is what the data and the chat template say"),
    "dataset_dir": by_itself("the place of dataset_info.json"),
    "train_on_prompt": switch(cannot("only answers are learned")),
    "mask_history": switch(cannot("each answer of a conversation is learned; a turn's own key trainable says otherwise")),
    "output_dir": maps("checkpoint.destination", path),
    "overwrite_output_dir": changed("a run resumes from its own checkpoints; another run's destination is refused"),
    "save_strategy": changed("checkpoint.every has steps and time"),
    "save_only_model": switch(changed("a checkpoint holds weights, optimizer and position, so that training resumes exactly")),
    "eval_strategy": changed("evaluation.everySteps counts steps"),
    "plot_loss": by_itself("the report draws the loss"),
    "report_to": _LOGS,
    "run_name": _LOGS,
    "enable_liger_kernel": no_effect("a kernel of the same arithmetic"),
    "use_v1_kernels": no_effect("a kernel of the same arithmetic"),
    "lora_alpha": maps("peft.alpha", real),
    "lora_dropout": maps("peft.dropout", real),
    "loraplus_lr_ratio": switch(maps("peft.learningRateRatio", real)),
    "pissa_init": switch(cannot("A is drawn as peft does by default")),
    "additional_target": switch(cannot("modules beside adapters stay frozen")),
    "quantization_bit": switch(changed(_BASE)),
    "quantization_method": changed(_BASE),
    "double_quantization": changed(_BASE),
    "use_distributed_optimizer": by_itself("optimizer states are sharded"),
    "overlap_grad_reduce": no_effect("when gradients are reduced changes no sum"),
    "overlap_param_gather": no_effect("when weights are gathered changes none of them"),
    "bias_activation_fusion": no_effect("a kernel of the same arithmetic"),
    "apply_rope_fusion": no_effect("a kernel of the same arithmetic"),
    "pref_beta": maps("training.dpo.beta", real) if task("dpo").fields else cannot(task("dpo").note),
    "pref_loss": RecipeKey(outcome=task("dpo").outcome, into=("task",), note=task("dpo").note, read=_preference_loss),
    "use_asft_loss": switch(cannot("the loss is cross entropy")),
    "asft_alpha": cannot("the loss is cross entropy"),
    "image_max_pixels": _IMAGES,
    "video_max_pixels": _IMAGES,
    "video_maxlen": _IMAGES,
    "video_fps": _IMAGES,
    "freeze_vision_tower": _IMAGES,
    "freeze_multi_modal_projector": _IMAGES,
}

PREFIXES: Mapping[str, RecipeKey] = {
    "kt_": cannot("experts are not computed on the CPU beside a GPU"),
    "use_kt": cannot("experts are not computed on the CPU beside a GPU"),
    "oft_": cannot("this version has no OFT"),
    "swanlab_": _LOGS,
    "use_swanlab": _LOGS,
    "wandb_": _LOGS,
    "trackio_": _LOGS,
    "logging_": _LOGS,
    "include_": _LOGS,
    "galore_": no_effect("read by use_galore alone"),
    "apollo_": no_effect("read by use_apollo alone"),
    "badam_": no_effect("read by use_badam alone"),
    "pissa_": no_effect("read by pissa_init alone"),
    "ppo_": no_effect("read by stage ppo alone"),
    "vllm_": no_effect("training generates nothing"),
    "fsdp_config.": by_itself("engine native shards by FSDP2, layer by layer"),
    "ray_": by_itself("the operator places the pods"),
}
"""Groups of keys that are alike."""
