"""Settings of engine deepspeed alone: offload, and further keys of its configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from llmtrain_trainer.config.strict import Strict

Place = Literal["none", "cpu", "nvme"]


class Offload(Strict):
    """ZeRO offload, with engine deepspeed: saves device memory and takes more time."""

    optimizer: Place = "none"
    """Keep optimizer states, and run the optimizer step, in host memory (cpu) or on disk (nvme). cpu needs zeroStage 1 or more, nvme 3."""

    parameters: Place = "none"
    """Keep the shards of the weights in host memory or on disk and fetch them layer by layer. Needs zeroStage 3."""

    path: Annotated[str, Field(pattern=r"^/.+", max_length=1024, examples=["/local/nvme"])] | None = None
    """Directory on a fast local disk of each node, for nvme. On a cluster it must be below /var/lib/llmtrain, the pod's own volume."""


OWNED: Mapping[str, str] = {
    "train_batch_size": "training.globalBatchSize",
    "train_micro_batch_size_per_gpu": "training.microBatchSize",
    "gradient_accumulation_steps": "training.globalBatchSize",
    "managed_gradient_accumulation": "training.globalBatchSize",
    "gradient_allreduce_op": "training.globalBatchSize",
    "gradient_clipping": "training.gradientClipping",
    "optimizer": "training.optimizer",
    "scheduler": "training.schedule",
    "zero_allow_untested_optimizer": "training.optimizer",
    "zero_force_ds_cpu_optimizer": "parallelism.offload.optimizer",
    "bf16": "training.precision",
    "bfloat16": "training.precision",
    "fp16": "training.precision",
    "amp": "training.precision",
    "torch_autocast": "training.precision",
    "data_types": "training.precision",
    "activation_checkpointing": "training.activationCheckpointing",
    "compile": "training.compile",
    "zero_optimization.stage": "parallelism.zeroStage",
    "zero_optimization.offload_optimizer.device": "parallelism.offload.optimizer",
    "zero_optimization.offload_optimizer.nvme_path": "parallelism.offload.path",
    "zero_optimization.offload_param.device": "parallelism.offload.parameters",
    "zero_optimization.offload_param.nvme_path": "parallelism.offload.path",
    "zero_optimization.cpu_offload": "parallelism.offload.optimizer",
    "zero_optimization.cpu_offload_params": "parallelism.offload.parameters",
    "tensor_parallel": "parallelism.tensor",
    "autotp_size": "parallelism.tensor",
    "pipeline.stages": "parallelism.pipeline",
    "pipeline.partition": "parallelism.pipeline",
    "pipeline.activation_checkpoint_interval": "training.activationCheckpointing",
    "data_parallel_size": "parallelism.data",
    "sequence_parallel_size": "parallelism.context",
    "expert_parallel": "parallelism.expert",
    "checkpoint": "checkpoint",
    "elasticity": "resources.nodes",
    "curriculum_learning": "dataset",
    "data_efficiency": "dataset",
}
"""Keys of DeepSpeed's configuration that a field of the spec sets; a dot leads into a section."""


def owned(keys: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """(key, field below spec) of every key that the spec sets already: a raw key may add to the derived configuration, never change it."""
    for name, value in keys.items():
        path = f"{prefix}{name}"
        if path in OWNED:
            yield path, OWNED[path]
        elif isinstance(value, Mapping):
            yield from owned(value, f"{path}.")
        elif any(key.startswith(f"{path}.") for key in OWNED):
            yield path, next(field for key, field in OWNED.items() if key.startswith(f"{path}."))
