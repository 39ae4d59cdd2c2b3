"""Axolotl's keys of devices, parallelism, saving, logs and kernels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from llmtrain_operator.recipes.counterpart import Counterpart, RecipeKey, Told, by_itself, cannot, changed, is_on, maps, no_effect, switch
from llmtrain_operator.recipes.values import names, path, whole
from llmtrain_operator.recipes.words import DEEPSPEED

_KERNEL = no_effect("a kernel of the same arithmetic")
_FSDP = by_itself("engine native shards by FSDP2, layer by layer")


def _offload(value: Any) -> Told:
    if not is_on(value):
        return Told(outcome=Counterpart.SAME, note="off in llmtrain too")
    return Told(outcome=Counterpart.DIFFERS, note="engine native keeps all on the device; engine deepspeed has parallelism.offload")


def _plugins(value: Any) -> Told:
    others = [name for name in names(value) if not re.search(r"liger|cut_cross_entropy|kernels", name, re.IGNORECASE)]
    if others:
        return Told(outcome=Counterpart.CANNOT, note=f"{', '.join(others)} is not known")
    return Told(outcome=Counterpart.NO_EFFECT, note="kernels of the same arithmetic")


def _keep(value: Any) -> int:
    return max(2, whole(value))


_SAVING = "a checkpoint holds weights, optimizer and position, so that training resumes exactly"

KEYS: Mapping[str, RecipeKey] = {
    "output_dir": maps("checkpoint.destination", path),
    "save_steps": maps("checkpoint.every.steps", whole),
    "saves_per_epoch": changed("checkpoint.every has steps and time; the default is 15m, and the last step is always saved"),
    "save_strategy": changed("checkpoint.every has steps and time; the default is 15m, and the last step is always saved"),
    "save_total_limit": maps("checkpoint.keep", _keep, "at least 2"),
    "save_only_model": switch(changed(_SAVING)),
    "save_first_step": switch(changed("checkpoint.every.steps: 1 saves each step")),
    "save_safetensors": by_itself("exports are safetensors"),
    "auto_resume_from_checkpoints": by_itself("resumes from the newest verified checkpoint"),
    "resume_from_checkpoint": changed("checkpoint.resume names a step of its destination"),
    "hub_model_id": switch(cannot("exports are not pushed to a hub")),
    "hub_strategy": switch(cannot("exports are not pushed to a hub")),
    "logging_steps": maps("training.logEverySteps", whole),
    "evals_per_epoch": changed("evaluation.everySteps counts steps; the default is 100, and the end"),
    "eval_steps": maps("evaluation.everySteps", whole),
    "eval_strategy": changed("evaluation.everySteps counts steps"),
    "deepspeed": DEEPSPEED,
    "fsdp": switch(maps("parallelism.zeroStage", lambda _: 3, "FSDP2 of engine native")),
    "fsdp_version": _FSDP,
    "fsdp_config.activation_checkpointing": switch(maps("training.activationCheckpointing", lambda _: "full")),
    "fsdp_config.fsdp_activation_checkpointing": switch(maps("training.activationCheckpointing", lambda _: "full")),
    "fsdp_config.offload_params": RecipeKey(outcome=Counterpart.DIFFERS, read=_offload),
    "fsdp_config.fsdp_offload_params": RecipeKey(outcome=Counterpart.DIFFERS, read=_offload),
    "tensor_parallel_size": maps("parallelism.tensor", whole),
    "context_parallel_size": maps("parallelism.context", whole),
    "sequence_parallel_degree": maps("parallelism.context", whole),
    "expert_parallel_size": maps("parallelism.expert", whole),
    "dp_shard_size": by_itself("the data degree follows from the devices"),
    "dp_replicate_size": changed("weights are sharded over all replicas; zeroStage: 0 keeps them whole on each"),
    "ddp_find_unused_parameters": no_effect("all weights take part in each step"),
    "ddp_timeout": no_effect("resilience.hangSeconds watches for hangs"),
    "low_cpu_mem_usage": by_itself("each rank reads only its own shards"),
    "experimental_skip_move_to_device": by_itself("each rank reads only its own shards"),
    "plugins": RecipeKey(outcome=Counterpart.NO_EFFECT, note="kernels; other plugins cannot be said", read=_plugins),
    "use_tensorboard": changed("metrics are in metrics.jsonl, the report and Prometheus"),
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
    "strict": no_effect("manifests are always strict"),
    "debug": no_effect("logs"),
    "local_rank": by_itself("ranks are started by the agent"),
    "world_size": by_itself("resources give the devices"),
}

PREFIXES: Mapping[str, RecipeKey] = {
    "fsdp_config.": _FSDP,
    "liger_": _KERNEL,
    "wandb_": no_effect("logs: metrics are in metrics.jsonl, the report and Prometheus"),
    "swanlab_": no_effect("logs: metrics are in metrics.jsonl, the report and Prometheus"),
    "use_swanlab": no_effect("logs: metrics are in metrics.jsonl, the report and Prometheus"),
    "use_wandb": no_effect("logs: metrics are in metrics.jsonl, the report and Prometheus"),
    "mlflow_": no_effect("logs: metrics are in metrics.jsonl, the report and Prometheus"),
    "comet_": no_effect("logs: metrics are in metrics.jsonl, the report and Prometheus"),
    "use_comet": no_effect("logs: metrics are in metrics.jsonl, the report and Prometheus"),
    "trl.": cannot("reinforcement learning with generated answers is not trained"),
    "vllm.": cannot("reinforcement learning with generated answers is not trained"),
    "ebft.": cannot("energy-based fine-tuning is not trained"),
    "qat.": cannot("training does not simulate quantisation"),
    "diffusion.": cannot("diffusion over text is not trained"),
}
"""Groups of keys that are alike."""
