"""Gradients over the mesh: the remaining reductions, the norm of the whole model, clipping."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist

from llmtrain_trainer.engines.native.mesh import ParallelDims
from llmtrain_trainer.engines.native.shards import Shard


def reduce_remaining_gradients(shards: Sequence[Shard], dims: ParallelDims) -> list[torch.Tensor]:
    """This rank's complete gradients after backward, each of its shard's shape. FSDP has reduced them over dp; the rest is reduced here."""
    gradients = []
    for shard in shards:
        shard.take_gradient()
        gradient = shard.local.grad
        assert gradient is not None
        if shard.partial_over_tp:
            dist.all_reduce(gradient, group=dims.tensor)
        if shard.tied:
            dist.all_reduce(gradient, group=dims.embedding_group)
        gradients.append(gradient)
    return gradients


def square_sum(shards: Sequence[Shard], gradients: Sequence[torch.Tensor]) -> torch.Tensor:
    """This rank's share of the squared norm, float64 scalar; the sum over all ranks counts every element of the model once."""
    counted = [gradient for shard, gradient in zip(shards, gradients, strict=True) if shard.counted and gradient.numel()]
    if not counted:
        return torch.zeros((), dtype=torch.float64, device=gradients[0].device)
    return torch.stack(torch._foreach_norm(counted)).double().square().sum()


def all_finite(tensors: Iterable[torch.Tensor]) -> bool:
    """Whether no element is NaN or infinite; waits for the device once."""
    held = [tensor for tensor in tensors if tensor.numel() and tensor.is_floating_point()]
    return not held or bool(torch.stack([norm.float() for norm in torch._foreach_norm(held, math.inf)]).isfinite().all())


def clip(gradients: Sequence[torch.Tensor], norm: float, limit: float) -> None:
    """Scale gradients of any shape, in place, to a norm of at most `limit`, as torch.nn.utils.clip_grad_norm_ does; 0 clips nothing."""
    scale = limit / (norm + 1e-6)
    if limit and scale < 1.0:
        torch._foreach_mul_(list(gradients), scale)
