"""TrainerConfig -> Accelerator: DDP, or FSDP2 where weights are sharded. The process group that stands is used as it is."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from accelerate import Accelerator, DistributedDataParallelKwargs, DistributedType, FullyShardedDataParallelPlugin
from accelerate.state import AcceleratorState
from torch.distributed.fsdp import MixedPrecisionPolicy

from llmtrain_trainer.config import TrainerConfig


def shards(config: TrainerConfig) -> bool:
    """Whether FSDP2 wraps the model: with replicas, and in bf16 also on one, so that one policy casts in every layout."""
    half = config.training.precision == "bf16"
    return config.mesh.zero_stage > 0 and (config.mesh.dp > 1 or half)


def accelerator_of(config: TrainerConfig, layer_classes: list[str]) -> Accelerator:
    """`layer_classes`: names of the classes that FSDP2 wraps one by one. Raises ValueError for a mesh that is not replicas alone."""
    mesh = config.mesh
    if mesh.pp * mesh.cp * mesh.tp * mesh.ep > 1 or mesh.dp != dist.get_world_size():
        degrees = f"pp {mesh.pp} x dp {mesh.dp} x cp {mesh.cp} x tp {mesh.tp}"
        raise ValueError(f"mesh {degrees} is not {dist.get_world_size()} replicas, which is all that engine accelerate runs")
    _describe_ranks(mesh.procs_per_node)
    AcceleratorState._reset_state(reset_partial_state=True)  # an engine may have been built in this process before
    fsdp, half = shards(config), config.training.precision == "bf16"
    made = Accelerator(
        cpu=config.device == "cpu",
        mixed_precision="bf16" if half and not fsdp else "no",  # FSDP2 casts by its own policy
        kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],
        fsdp_plugin=_plugin(config, layer_classes) if fsdp and config.device == "cuda" else None,
    )
    if fsdp and config.device == "cpu":
        # Accelerate chooses FSDP on accelerators alone. What it does then runs on CPUs as well, once its state says so.
        made.state.fsdp_plugin = _plugin(config, layer_classes)
        made.state.distributed_type = DistributedType.FSDP
    return made


def _describe_ranks(procs_per_node: int) -> None:
    """What Accelerate reads from the environment, as torchrun would set it."""
    rank, world = dist.get_rank(), dist.get_world_size()
    told = {"RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": rank % procs_per_node, "LOCAL_WORLD_SIZE": procs_per_node}
    os.environ.update({name: str(value) for name, value in told.items()})
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))  # else it would choose the number of threads


def _plugin(config: TrainerConfig, layer_classes: list[str]) -> FullyShardedDataParallelPlugin:
    """zeroStage 3 gathers a layer when it computes; 2 keeps it gathered until its backward pass is over."""
    half = config.training.precision == "bf16"
    return FullyShardedDataParallelPlugin(
        fsdp_version=2,
        reshard_after_forward=config.mesh.zero_stage == 3,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=layer_classes,
        mixed_precision_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32) if half else None,
        cpu_ram_efficient_loading=False,  # weights are made equal on every rank
    )
