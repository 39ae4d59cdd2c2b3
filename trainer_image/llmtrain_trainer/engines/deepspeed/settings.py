"""TrainerConfig -> the configuration that deepspeed.initialize takes. Pure; the only place that writes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.config.deepspeed import Offload, owned

Settings = dict[str, Any]


def settings_of(config: TrainerConfig) -> Settings:
    """What the fields say, and the raw keys of config.deepspeed beside it.

    Raises ValueError for a raw key that a field says already.
    """
    raw = config.deepspeed or {}
    for key, field in owned(raw):
        raise ValueError(f"parallelism.deepspeed holds {key}, which spec.{field} says: set it there alone")
    return _laid_over(_derived(config), raw)


def clips_itself(config: TrainerConfig) -> bool:
    """Whether DeepSpeed clips. Without ZeRO in fp32 we do: with a pipeline its norm would be that of one stage."""
    return config.mesh.zero_stage > 0


def _derived(config: TrainerConfig) -> Settings:
    training, mesh = config.training, config.mesh
    settings: Settings = {
        # Never train_batch_size: with AutoTP DeepSpeed takes the whole world for data parallel when it divides.
        "train_micro_batch_size_per_gpu": config.batch.micro_size,
        "gradient_accumulation_steps": config.batch.accumulation,
        "gradient_clipping": float(training.gradient_clipping) if clips_itself(config) else 0.0,  # left out it would be 1
        "zero_optimization": {"stage": mesh.zero_stage, **_offload(config.offload or Offload())},
        # torch's AdamW, fused on CPUs too: DeepSpeed's own is compiled when it is first used.
        "zero_force_ds_cpu_optimizer": False,
        "checkpoint": {"tag_validation": "Ignore"},
    }
    if training.precision == "bf16":
        settings |= {"bf16": {"enabled": True}, "data_types": {"grad_accum_dtype": "fp32"}, "communication_data_type": "fp32"}
    if mesh.tp > 1 and mesh.pp == 1:
        settings["tensor_parallel"] = {"autotp_size": mesh.tp}
    return settings


def _offload(offload: Offload) -> Settings:
    places = {"offload_optimizer": offload.optimizer, "offload_param": offload.parameters}
    path = {"nvme_path": offload.path} if offload.path else {}
    settings: Settings = {key: {"device": place, **(path if place == "nvme" else {})} for key, place in places.items() if place != "none"}
    if offload.parameters == "nvme":
        settings["offload_param"]["max_in_cpu"] = 0  # left out the first 1e9 of a rank stay in memory
        # It reads into five buffers and ends where there is none: a layer is fetched as it is used, and let go at once.
        settings |= {"stage3_max_reuse_distance": 0, "stage3_prefetch_bucket_size": 0}
    return settings


def _laid_over(base: Mapping[str, Any], more: Mapping[str, Any]) -> Settings:
    merged = dict(base)
    for key, value in more.items():
        old = merged.get(key)
        merged[key] = _laid_over(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged
