"""Megatron's data parallelism and AdamW around this rank's stages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig, finalize_model_grads
from megatron.core.models.gpt.gpt_model import GPTModel
from megatron.core.optimizer import ChainedOptimizer, MegatronOptimizer, OptimizerConfig, get_megatron_optimizer
from megatron.core.optimizer.clip_grads import clip_grad_by_total_norm_fp32
from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer
from megatron.core.transformer.transformer_config import TransformerConfig
from torch import nn

from llmtrain_trainer.checkpoint_readers.reader import WEIGHT
from llmtrain_trainer.config import TrainerConfig


def wrap(chunks: Sequence[GPTModel], settings: TransformerConfig, *, distributed: bool) -> list[DistributedDataParallel]:
    """The stages with their gradients in fp32 buffers, which are reduced over the replicas during backward."""
    data = DistributedDataParallelConfig(grad_reduce_in_fp32=True, overlap_grad_reduce=True, use_distributed_optimizer=distributed)
    wrapped = [DistributedDataParallel(settings, data, chunk, disable_bucketing=turn > 0) for turn, chunk in enumerate(chunks)]
    pauses = [chunk.no_sync for chunk in wrapped]
    settings.no_sync_func = pauses if len(pauses) > 1 else pauses[0]
    settings.finalize_model_grads_func = finalize_model_grads
    return wrapped


def adamw(chunks: Sequence[DistributedDataParallel], config: TrainerConfig, settings: TransformerConfig) -> MegatronOptimizer:
    """AdamW with decay on matrices alone; with zeroStage 1 its states are sharded over the replicas."""
    given = config.training.optimizer
    optimizer = get_megatron_optimizer(
        OptimizerConfig(
            optimizer="adam",
            lr=given.learning_rate,
            weight_decay=given.weight_decay,
            adam_beta1=given.betas[0],
            adam_beta2=given.betas[1],
            adam_eps=given.epsilon,
            clip_grad=config.training.gradient_clipping or math.inf,  # 0 would leave the norm out too
            params_dtype=settings.params_dtype,
            bf16=settings.bf16,
            use_distributed_optimizer=config.mesh.zero_stage > 0,
        ),
        list(chunks),
    )
    for group in optimizer.param_groups:
        group["weight_decay"] = given.weight_decay * group["wd_mult"]  # Megatron leaves this to its scheduler; ours has the rate alone
    for part in parts_of(optimizer):
        part.init_state_fn(part.optimizer, part.config)  # Megatron asks for the states when it saves or loads, be it before any step
    set_steps(optimizer, 0)
    return optimizer


def measure(optimizer: MegatronOptimizer) -> float:
    """Norm of the whole model's gradient; the gradients are ready for `update` then. Collective."""
    optimizer.prepare_grads()
    return float(optimizer.get_grad_norm() or 0.0)


def update(optimizer: MegatronOptimizer, norm: float, learning_rate: float) -> None:
    """Clip the gradients that were measured, and step. Collective."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    for part in parts_of(optimizer):
        if weights := part.get_parameters():
            clip_grad_by_total_norm_fp32(weights, part.config.clip_grad, norm)
    optimizer.step_with_ready_grads()


def parts_of(optimizer: MegatronOptimizer) -> list[MegatronOptimizer]:
    """One for the weights that all replicas hold, one for experts that are sharded over ep; a part without weights is left out."""
    parts = optimizer.chained_optimizers if isinstance(optimizer, ChainedOptimizer) else [optimizer]
    return [part for part in parts if part.optimizer is not None]


def put(optimizer: MegatronOptimizer, weight: nn.Parameter, values: Mapping[str, torch.Tensor]) -> None:
    """Give the optimizer its fp32 copy of a weight, and the moments. `values`: by WEIGHT and MOMENTS, each [*weight.shape]."""
    for part in parts_of(optimizer):
        if isinstance(part, DistributedOptimizer):
            if weight in part.model_param_group_index_map:  # this replica has a share of it
                share = part._get_model_param_range_map(weight)["param"]
                kept = part._get_main_param_and_optimizer_states(weight)
                _copy(kept, {key: value.flatten()[share.start : share.end] for key, value in values.items()})
        else:
            main = getattr(weight, "main_param", weight)
            if main in part.optimizer.state:
                _copy({"param": main, **part.optimizer.state[main]}, values)


def _copy(kept: Mapping[str, torch.Tensor], values: Mapping[str, torch.Tensor]) -> None:
    for key, value in values.items():
        kept["param" if key == WEIGHT else key].copy_(value)


def set_steps(optimizer: MegatronOptimizer, steps: int) -> None:
    """Say how many steps AdamW has done. torch's keeps a counter for each weight, transformer-engine's and Apex's one for each group."""
    for part in parts_of(optimizer):
        if isinstance(part.optimizer, torch.optim.AdamW):
            for state in part.optimizer.state.values():
                state["step"] = torch.tensor(float(steps))
        else:
            for group in part.optimizer.param_groups:
                group["step"] = steps


def forget_steps(part: MegatronOptimizer) -> None:
    """Take torch's counters away before Megatron-core 0.16 loads states: it would look for them among the tensors of the checkpoint."""
    for state in part.optimizer.state.values():
        state.pop("step", None)
