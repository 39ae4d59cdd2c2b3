"""LLaMA-Factory's keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmtrain_operator.recipes.counterpart import Counterpart, RecipeKey, Told, by_itself, cannot, changed, is_on, maps, no_effect, switch
from llmtrain_operator.recipes.values import names, path, place, real, whole
from llmtrain_operator.recipes.words import DEEPSPEED, OPTIMIZER, SCHEDULE, adapter, precision, task
from llmtrain_trainer.config.tables.chat_templates import CHAT_TEMPLATES

_NAMED = {
    "qwen3": "qwen",
    "qwen2": "qwen",
    "gemma2": "gemma",
    "gemma3": "gemma",
    "phi4": "phi",
    "phi_small": "phi",
    "deepseek3": "deepseek",
}
_LOGS = no_effect("logs: metrics are in metrics.jsonl, the report and Prometheus")
_BASE = "the frozen weights are not quantised: more memory, and no rounding of the base"
_IMAGES = by_itself("models of text have none")
_STAGES = {"pt": "pretrain", "sft": "sft", "rm": "reward", "dpo": "dpo", "kto": "kto", "ppo": "ppo"}
_LOSSES = {"sigmoid": "sigmoid", "hinge": "hinge", "ipo": "ipo"}


def _stage(value: Any) -> Told:
    return task(_STAGES.get(str(value), str(value)))


def _kind(value: Any) -> Told:
    if value == "full":
        return Told(outcome=Counterpart.SAME, note="all weights are trained")
    return adapter(str(value))


def _template(value: Any) -> Told:
    word = str(value)
    known = _NAMED.get(word, word)
    if known in CHAT_TEMPLATES and known == word:
        return Told(outcome=Counterpart.MAPS, fields={"tokenizer.chatTemplate": known})
    note = f"{word}: the tokenizer's own chat template is used; tokenizer.chatTemplate names another, or holds a Jinja text"
    return Told(outcome=Counterpart.SAME if is_on(value) is False else Counterpart.DIFFERS, note=note)


def _targets(value: Any) -> list[str]:
    return ["all-linear"] if value == "all" else names(value)


def _preference_loss(value: Any) -> Told:
    word = str(value)
    if word in ("orpo", "simpo"):
        return task(word)
    return task("dpo", training__dpo__loss=_LOSSES[word]) if word in _LOSSES else Told(outcome=Counterpart.CANNOT, note=f"no loss {word}")


def _half(word: str) -> RecipeKey:
    off = Told(outcome=Counterpart.SAME, note="off in llmtrain too")
    best = precision(word)
    return RecipeKey(outcome=best.outcome, into=tuple(best.fields), note=best.note, read=lambda value: best if is_on(value) else off)


KEYS: Mapping[str, RecipeKey] = {
    "model_name_or_path": maps("model.source", place),
    "model_revision": maps("model.revision", str),
    "adapter_name_or_path": switch(cannot("training does not start from an adapter")),
    "trust_remote_code": switch(changed("code of a repository is never run; the plan says whether an engine knows the architecture")),
    "stage": RecipeKey(outcome=Counterpart.MAPS, into=("task",), read=_stage),
    "do_train": by_itself("a job trains"),
    "do_eval": changed("evaluation is a section of the job"),
    "do_predict": switch(cannot("a job does not write answers")),
    "finetuning_type": RecipeKey(outcome=Counterpart.MAPS, into=("peft.method",), read=_kind),
    "template": RecipeKey(outcome=Counterpart.MAPS, into=("tokenizer.chatTemplate",), read=_template),
    "default_system": maps("dataset[].system", str),
    "enable_thinking": changed("reasoning is what the data and the chat template say"),
    "dataset": maps("dataset", lambda _: None, "each name of dataset_info.json is an entry"),
    "eval_dataset": changed("write the datasets in evaluation.dataset"),
    "dataset_dir": by_itself("the place of dataset_info.json"),
    "cutoff_len": maps("training.sequenceLength", whole),
    "max_samples": maps("dataset[].maxSamples", whole),
    "preprocessing_num_workers": no_effect("how many processes prepare rows changes none of them"),
    "dataloader_num_workers": no_effect("rows are read while the step is computed"),
    "overwrite_cache": no_effect("prepared rows are cached by what made them"),
    "tokenized_path": no_effect("prepared rows are cached by what made them"),
    "packing": maps("training.packing", is_on),
    "neat_packing": by_itself("packed samples do not see each other"),
    "streaming": switch(maps("dataset[].streaming", lambda _: True)),
    "train_on_prompt": switch(cannot("only answers are learned")),
    "mask_history": switch(cannot("each answer of a conversation is learned; a turn's own key trainable says otherwise")),
    "val_size": maps("evaluation.split", real),
    "output_dir": maps("checkpoint.destination", path),
    "overwrite_output_dir": changed("a run resumes from its own checkpoints; another run's destination is refused"),
    "logging_steps": maps("training.logEverySteps", whole),
    "save_steps": maps("checkpoint.every.steps", whole),
    "save_strategy": changed("checkpoint.every has steps and time"),
    "save_total_limit": maps("checkpoint.keep", lambda value: max(2, whole(value)), "at least 2"),
    "save_only_model": switch(changed("a checkpoint holds weights, optimizer and position, so that training resumes exactly")),
    "eval_steps": maps("evaluation.everySteps", whole),
    "eval_strategy": changed("evaluation.everySteps counts steps"),
    "plot_loss": by_itself("the report draws the loss"),
    "report_to": _LOGS,
    "run_name": _LOGS,
    "per_device_train_batch_size": maps("training.microBatchSize", whole),
    "per_device_eval_batch_size": no_effect("evaluation uses the micro-batch of training"),
    "gradient_accumulation_steps": maps("training.globalBatchSize", lambda _: None, "times the batch per device times the replicas"),
    "learning_rate": maps("training.optimizer.learningRate", real),
    "num_train_epochs": maps("training.epochs", real),
    "max_steps": maps("training.maxSteps", whole, "instead of epochs"),
    "lr_scheduler_type": SCHEDULE,
    "warmup_ratio": maps("training.schedule.warmupRatio", real),
    "warmup_steps": maps("training.schedule.warmupSteps", whole),
    "optim": OPTIMIZER,
    "weight_decay": maps("training.optimizer.weightDecay", real),
    "max_grad_norm": maps("training.gradientClipping", real),
    "adam_beta1": maps("training.optimizer.betas", lambda _: None),
    "adam_beta2": maps("training.optimizer.betas", lambda _: None),
    "bf16": _half("bf16"),
    "fp16": _half("fp16"),
    "pure_bf16": switch(changed("bf16 computes in bf16; trained weights and optimizer states stay in fp32")),
    "fp8": switch(cannot("fp8 is not computed in")),
    "fp8_backend": cannot("fp8 is not computed in"),
    "gradient_checkpointing": switch(maps("training.activationCheckpointing", lambda _: "full")),
    "flash_attn": no_effect("sdpa chooses a flash kernel on a GPU"),
    "enable_liger_kernel": no_effect("a kernel of the same arithmetic"),
    "use_v1_kernels": no_effect("a kernel of the same arithmetic"),
    "neftune_noise_alpha": switch(cannot("embeddings get no noise")),
    "seed": maps("training.seed", whole),
    "resume_from_checkpoint": by_itself("resumes from the newest verified checkpoint"),
    "lora_rank": maps("peft.rank", whole),
    "lora_alpha": maps("peft.alpha", real),
    "lora_dropout": maps("peft.dropout", real),
    "lora_target": maps("peft.targetModules", _targets),
    "use_rslora": switch(maps("peft.method", lambda _: "rslora")),
    "use_dora": switch(RecipeKey(outcome=adapter("dora").outcome, note=adapter("dora").note, read=lambda _: adapter("dora"))),
    "loraplus_lr_ratio": switch(maps("peft.learningRateRatio", real)),
    "pissa_init": switch(cannot("A is drawn as peft does by default")),
    "additional_target": switch(cannot("modules beside adapters stay frozen")),
    "freeze_trainable_layers": cannot("weights are trained all, or as adapters"),
    "quantization_bit": switch(changed(_BASE)),
    "quantization_method": changed(_BASE),
    "double_quantization": changed(_BASE),
    "deepspeed": DEEPSPEED,
    "ddp_timeout": no_effect("resilience.hangSeconds watches for hangs"),
    "tensor_model_parallel_size": maps("parallelism.tensor", whole),
    "pipeline_model_parallel_size": maps("parallelism.pipeline", whole),
    "expert_model_parallel_size": maps("parallelism.expert", whole),
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
    "ray_": by_itself("the operator places the pods"),
}
"""Groups of keys that are alike."""
