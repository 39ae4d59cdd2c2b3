"""Axolotl's keys of devices, parallelism, saving, logs and kernels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

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
    unknown,
)
from llmtrain_operator.recipes.sharding import DEEPSPEED, FSDP, OFFLOAD, RESHARD
from llmtrain_operator.recipes.steps import cadence, keep
from llmtrain_operator.recipes.values import count, names, path

_LOGS = no_effect("logs: metrics are in metrics.jsonl, the report and Prometheus")
_KERNEL = no_effect("a kernel of the same arithmetic")
_FSDP = by_itself("engine native shards by FSDP2, layer by layer")


def _offload(value: Any, _: Settings) -> Told:
    if not is_on(value):
        return OFF
    return Told(outcome=Counterpart.DIFFERS, note=OFFLOAD)


def _plugins(value: Any, _: Settings) -> Told:
    others = [name for name in names(value) if not re.search(r"liger|cut_cross_entropy|kernels", name, re.IGNORECASE)]
    if others:
        return Told(outcome=Counterpart.CANNOT, note=f"{', '.join(others)} is not known")
    return Told(outcome=Counterpart.NO_EFFECT, note="kernels of the same arithmetic")


_SAVING = "a checkpoint holds weights, optimizer and position, so that training resumes exactly"

KEYS: Mapping[str, RecipeKey] = {
    "output_dir": maps("checkpoint.destination", path),
    "save_steps": RecipeKey(outcome=Counterpart.MAPS, into=("checkpoint.every.steps",), read=cadence("checkpoint.every.steps")),
    "saves_per_epoch": changed("checkpoint.every has steps and time; the default is 15m, and the last step is always saved"),
    "save_strategy": changed("checkpoint.every has steps and time; the default is 15m, and the last step is always saved"),
    "save_total_limit": switch(maps("checkpoint.keep", keep, "at least 2")),
    "save_only_model": switch(changed(_SAVING)),
    "save_first_step": switch(changed("checkpoint.every.steps: 1 saves each step")),
    "save_safetensors": by_itself("exports are safetensors"),
    "auto_resume_from_checkpoints": by_itself("resumes from the newest verified checkpoint"),
    "resume_from_checkpoint": changed("checkpoint.resume names a step of its destination"),
    "hub_model_id": switch(cannot("exports are not pushed to a hub")),
    "hub_strategy": switch(cannot("exports are not pushed to a hub")),
    "logging_steps": RecipeKey(outcome=Counterpart.MAPS, into=("training.logEverySteps",), read=cadence("training.logEverySteps")),
    "evals_per_epoch": changed("evaluation.everySteps counts steps; the default is 100, and the end"),
    "eval_steps": RecipeKey(outcome=Counterpart.MAPS, into=("evaluation.everySteps",), read=cadence("evaluation.everySteps")),
    "eval_strategy": changed("evaluation.everySteps counts steps"),
    "deepspeed": DEEPSPEED,
    "fsdp": FSDP,
    "fsdp_version": _FSDP,
    "fsdp_config.activation_checkpointing": switch(maps("training.activationCheckpointing", lambda _: "full")),
    "fsdp_config.fsdp_activation_checkpointing": switch(maps("training.activationCheckpointing", lambda _: "full")),
    **{
        f"fsdp_config.{prefix}{name}": key
        for prefix in ("", "fsdp_")
        for name, key in {
            "offload_params": RecipeKey(outcome=Counterpart.DIFFERS, note=OFFLOAD, read=_offload),
            "sharding_strategy": FSDP,
            "reshard_after_forward": RESHARD,
        }.items()
    },
    "tensor_parallel_size": switch(maps("parallelism.tensor", count)),
    "context_parallel_size": switch(maps("parallelism.context", count)),
    "sequence_parallel_degree": switch(maps("parallelism.context", count)),
    "expert_parallel_size": switch(maps("parallelism.expert", count)),
    "dp_shard_size": by_itself("the data degree follows from the devices"),
    "dp_replicate_size": changed("weights are sharded over all replicas; zeroStage: 0 keeps them whole on each"),
    "ddp_find_unused_parameters": no_effect("all weights take part in each step"),
    "ddp_timeout": by_itself("data is prepared before the ranks start; resilience.hang watches for hangs"),
    "low_cpu_mem_usage": by_itself("each rank reads only its own shards"),
    "experimental_skip_move_to_device": by_itself("each rank reads only its own shards"),
    "plugins": RecipeKey(outcome=Counterpart.NO_EFFECT, note="kernels; other plugins cannot be said", read=_plugins),
    "use_tensorboard": _LOGS,
    "dataloader_num_workers": by_itself("rows are tokenised before training, so that reading them needs no workers"),
    "dataloader_pin_memory": no_effect("how rows are read changes none of them"),
    "dataloader_prefetch_factor": no_effect("how rows are read changes none of them"),
    "load_best_model_at_end": switch(cannot("the last step is exported")),
    "hf_use_auth_token": no_effect("the environment holds the token of the hub"),
    "accelerator_config.gradient_accumulation_kwargs.sync_each_batch": no_effect("when gradients are reduced changes no sum"),
    "experts_implementation": _KERNEL,
    "use_kernels": _KERNEL,
    "use_scattermoe": _KERNEL,
    "use_sonicmoe": _KERNEL,
    "cut_cross_entropy": _KERNEL,
    "fused_attn_kernel": _KERNEL,
    "flash_attn_fuse_mlp": _KERNEL,
    "gemma4_hybrid_attn_impl": _KERNEL,
    "tiled_mlp": _KERNEL,
    "llama4_linearized_experts": _KERNEL,
    "flex_attn_compile_kwargs.mode": _KERNEL,
    "lora_mlp_kernel": _KERNEL,
    "lora_qkv_kernel": _KERNEL,
    "lora_o_kernel": _KERNEL,
    "lora_embedding_kernel": _KERNEL,
    "dsv4_fp4_grouped_mode": cannot("weights are not held in fp4"),
    "nvfp4_merge_aware": cannot("weights are not held in fp4"),
    "use_onebitllms": switch(cannot("weights of one bit are not trained")),
    "fsdp_config": unknown("keys are expected below it"),
    "strict": no_effect("manifests are always strict"),
    "debug": no_effect("logs"),
    "local_rank": by_itself("ranks are started by the agent"),
    "world_size": by_itself("resources give the devices"),
}

PREFIXES: Mapping[str, RecipeKey] = {
    "fsdp_config.": _FSDP,
    "liger_": _KERNEL,
    "wandb_": _LOGS,
    "swanlab_": _LOGS,
    "use_swanlab": _LOGS,
    "use_wandb": _LOGS,
    "trackio_": _LOGS,
    "use_trackio": _LOGS,
    "use_otel_metrics": _LOGS,
    "otel_metrics_": _LOGS,
    "use_mlflow": _LOGS,
    "mlflow_": _LOGS,
    "comet_": _LOGS,
    "use_comet": _LOGS,
    "trl.": cannot("reinforcement learning with generated answers is not trained"),
    "vllm.": cannot("reinforcement learning with generated answers is not trained"),
    "ebft.": cannot("energy-based fine-tuning is not trained"),
    "qat.": cannot("training does not simulate quantisation"),
    "diffusion.": cannot("diffusion over text is not trained"),
}
"""Groups of keys that are alike."""
