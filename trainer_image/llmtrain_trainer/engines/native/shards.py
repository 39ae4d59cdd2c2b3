"""This rank's shard of each trainable weight, as a plain tensor.

Optimizer and clipping work on plain tensors: their arithmetic is elementwise, so DTensor's dispatch is not needed, and one fused kernel
updates all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from llmtrain_trainer.engines.native.mesh import ParallelDims
from llmtrain_trainer.model.stage import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One trainable weight as this rank sees it."""

    name: str
    """Name in checkpoints; the same in every layout."""

    weight: nn.Parameter
    """The parameter in the model: plain, or a DTensor over tp or experts, over replicas, or both."""

    local: nn.Parameter
    """This rank's elements, in the same storage."""

    counted: bool
    """Whether this rank is the one that counts these elements in a norm over the whole model."""

    tied: bool
    """Whether the first and the last stage both hold it (tied embeddings)."""

    partial_over_tp: bool
    """Its gradient is partial and must be summed over tp."""

    def drop_gradient(self) -> None:
        """Free the gradient in both places that hold it: otherwise it stays resident during the next backward pass."""
        self.weight.grad = self.local.grad = None

    def take_gradient(self) -> None:
        """Point local.grad at this rank's part of weight.grad; zeros where backward did not reach it."""
        gradient = self.weight.grad
        if isinstance(gradient, DTensor) and isinstance(self.weight, DTensor):
            if gradient.placements != self.weight.placements:
                gradient = gradient.redistribute(placements=self.weight.placements)
            gradient = gradient.to_local()
        self.local.grad = torch.zeros_like(self.local) if gradient is None else gradient

    def as_dtensor(self, local: torch.Tensor) -> torch.Tensor:
        """A tensor [*local.shape] as the same shard of a DTensor [*weight.shape] that `self.local` is of `weight`."""
        if not isinstance(self.weight, DTensor):
            return local
        mesh, placements = self.weight.device_mesh, self.weight.placements
        return DTensor.from_local(local, mesh, placements, run_check=False, shape=self.weight.shape, stride=self.weight.stride())


def shards_of(stages: Iterable[Stage], dims: ParallelDims, partial_over_tp: set[str]) -> tuple[Shard, ...]:
    """All trainable weights of this rank's stages. `partial_over_tp`: names whose gradients are summed over tp."""
    found = []
    for stage in stages:
        embedding = stage.network.get_parameter(stage.embedding) if stage.embedding else None
        for name, weight in stage.names():
            if not weight.requires_grad:
                continue
            head = stage.head is not None and weight is stage.network.get_parameter(stage.head)
            local = nn.Parameter(_local(weight))
            found.append(
                Shard(
                    name=name,
                    weight=weight,
                    local=local,
                    counted=not head and _counted(weight, dims),
                    tied=head or weight is embedding,
                    partial_over_tp=name in partial_over_tp,
                )
            )
    return tuple(found)


def _local(weight: nn.Parameter) -> torch.Tensor:
    with torch.no_grad():
        return weight.to_local() if isinstance(weight, DTensor) else weight.detach()


def _counted(weight: nn.Parameter, dims: ParallelDims) -> bool:
    """True on exactly one of the ranks that hold the same elements: the one at 0 of every axis they are repeated over."""
    split: set[str] = set()
    if isinstance(weight, DTensor):
        axes = weight.device_mesh.mesh_dim_names or ()
        split = {axis for axis, placement in zip(axes, weight.placements, strict=True) if not placement.is_replicate()}
    if "experts" in split:
        return "expert_data" in split or dims.replica_rank < dims.ep
    return ("data" in split or dims.replica_rank == 0) and ("tp" in split or dims.tp_rank == 0)
