"""Builds this rank's stages from a model directory, layer by layer: reads weights, shards them over tp, then over dp."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Shard
from transformers import PreTrainedModel

from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.engines.native import context, experts, router_balance, tensor
from llmtrain_trainer.engines.native.mesh import ParallelDims
from llmtrain_trainer.model.materialize import materialize, read_adapter
from llmtrain_trainer.model.pretrained import Pretrained
from llmtrain_trainer.model.skeleton import needs_mask, shape_of, skeleton
from llmtrain_trainer.model.stage import Stage, cut, tied_names
from llmtrain_trainer.objectives import OBJECTIVES


def native_skeleton(config: TrainerConfig, model_dir: Path) -> PreTrainedModel:
    """The skeleton with the attention kernel of this layout, which exchanges heads if sequences are split over context ranks."""
    if config.mesh.cp == 1:
        return skeleton(config, model_dir)
    masked = needs_mask(config, shape_of(model_dir))
    return skeleton(config, model_dir, attention=context.implementation(config.mesh.cp, masked=masked))


def build_stages(config: TrainerConfig, model_dir: Path, dims: ParallelDims) -> tuple[Stage, ...]:
    """This rank's stages, ready to train; virtual stages in model order. Collective over dp, cp and tp."""
    indices = range(dims.pp_rank, len(config.mesh.stages), dims.pp)
    return tuple(_build(config, model_dir, dims, index) for index in indices)


def _build(config: TrainerConfig, model_dir: Path, dims: ParallelDims, index: int) -> Stage:
    network = native_skeleton(config, model_dir)
    tied = tied_names(network)
    router_balance.attach(config, network, group=dims.context, parts=dims.cp)
    stage = cut(network, index, config.mesh.stages, OBJECTIVES[config.task])
    plan: dict[str, str] = {}
    experts.check(network.config, dims)
    if dims.cp > 1:
        context.check(network.config, config.model.attention, dims)
        context.split(network, dims)
    if dims.tp > 1:
        tensor.check(network.config, dims.tp)
        plan = tensor.styles(network, dims.tp)
    random = config.model.config is not None or config.model.init == "random"
    weights = None if random else Pretrained(model_dir, network.base_model_prefix, tied)
    adapter = read_adapter(model_dir)
    _recompute_and_compile(config, network, stage)
    layers = [name for name, _ in stage.layers]
    for name, layer in stage.layers:
        materialize(network, name, weights, config.training.seed, dims.device, adapter=adapter)
        as_computed(config, layer)
        tensor.split(network, name, plan, dims.mesh["tp"])
        for mixture in experts.split(network, name, dims):
            _shard(config, dims, mixture, dims.expert_data)
        _shard(config, dims, layer, dims.data)
    materialize(network, "", weights, config.training.seed, dims.device, skip=layers, adapter=adapter)
    as_computed(config, network)
    for name in plan:
        if not any(name.startswith(f"{layer}.") for layer in layers):
            tensor.split(network, name, plan, dims.mesh["tp"])
    for head, embedding in tied.items():
        if stage.first and stage.last:
            network.get_submodule(head.rpartition(".")[0]).weight = network.get_parameter(embedding)
    _shard(config, dims, network, dims.data)
    return stage


def as_computed(config: TrainerConfig, module: nn.Module) -> None:
    """Keep frozen weights in the type that layers compute in, which FSDP2 would cast them to in each forward pass: half the memory in bf16,
    and the same results. `module`: not yet split."""
    if config.training.precision == "bf16":
        for weight in module.parameters():
            if not weight.requires_grad and weight.dtype != torch.bfloat16:
                weight.data = weight.data.to(torch.bfloat16)


def _recompute_and_compile(config: TrainerConfig, network: PreTrainedModel, stage: Stage) -> None:
    if config.training.activation_checkpointing == "full":
        network.activation_checkpointing_enable({"use_reentrant": False})
    if config.training.compile:
        for _, layer in stage.layers:
            layer.compile()


def sharded(config: TrainerConfig, dims: ParallelDims) -> bool:
    """Whether FSDP2 wraps the stages: with replicas, and in bf16 also on a mesh of one, so that one policy casts in every layout."""
    return dims.replicas > 1 or config.training.precision == "bf16"


def _shard(config: TrainerConfig, dims: ParallelDims, module: nn.Module, mesh: DeviceMesh) -> None:
    if not sharded(config, dims):
        return
    bf16 = config.training.precision == "bf16"
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32) if bf16 else MixedPrecisionPolicy()
    wrapped = fully_shard(
        module,
        mesh=mesh,
        reshard_after_forward=dims.zero_stage == 3,
        mp_policy=policy,
        shard_placement_fn=partial(_dimension, mesh.size()),
        ignored_params=_whole(dims, module, mesh),
    )
    # The loss is already divided by the global number of targets: gradients are summed over replicas, not averaged.
    assert isinstance(wrapped, FSDPModule)
    wrapped.set_force_sum_reduction_for_comms(True)
    wrapped.set_gradient_divide_factor(1.0)


def _whole(dims: ParallelDims, module: nn.Module, mesh: DeviceMesh) -> set[nn.Parameter] | None:
    """Frozen weights of which a rank keeps all: FSDP2 would only copy them. None where there are none, or nothing else."""
    frozen = {weight for weight in module.parameters() if not weight.requires_grad}
    alone = dims.zero_stage == 0 or mesh.size() == 1
    return frozen if alone and frozen and any(weight.requires_grad for weight in module.parameters()) else None


def _dimension(replicas: int, weight: nn.Parameter) -> Shard | None:
    """Experts are distributed over ranks along dimension 0. Replicas shard them along another dimension that divides, so that a shard is
    one block."""
    if not isinstance(weight, DTensor) or "experts" not in (weight.device_mesh.mesh_dim_names or ()):
        return None
    return next((Shard(axis) for axis in range(1, weight.ndim) if weight.shape[axis] % replicas == 0), None)
