"""This rank's coordinates on the mesh, and its tensor-parallel group.

DeepSpeed makes its own groups over pipeline and data, in the same rank order: pp, dp, tp, outer to inner.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist

from llmtrain_trainer.config import Mesh


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepSpeedRank:
    """A rank's coordinates."""

    device: torch.device
    pp: int
    dp: int
    tp: int
    pp_rank: int
    dp_rank: int
    tp_rank: int
    tensor: dist.ProcessGroup | None
    """Ranks that hold the other shards of this rank's layers; None where tp is 1."""

    def first_rank_of(self, pp: int) -> int:
        """Lowest global rank of a stage."""
        return pp * self.dp * self.tp


def place_of(mesh: Mesh, device: torch.device) -> DeepSpeedRank:
    """Collective. Raises ValueError if the engine lacks an axis of the mesh, or the mesh needs another number of ranks."""
    for axis in ("cp", "ep"):
        if getattr(mesh, axis) != 1:
            raise ValueError(f"mesh.{axis} is {getattr(mesh, axis)}, but engine deepspeed has no {axis} axis: set it to 1")
    world, rank = dist.get_world_size(), dist.get_rank()
    if mesh.world_size != world:
        raise ValueError(f"mesh pp {mesh.pp} x dp {mesh.dp} x tp {mesh.tp} needs {mesh.world_size} ranks, but {world} are running")
    if len(mesh.stages) != mesh.pp:
        raise ValueError(f"mesh.stages has {len(mesh.stages)} ranges for pp {mesh.pp}: engine deepspeed holds one stage a rank")
    inner = mesh.dp * mesh.tp
    return DeepSpeedRank(
        device=device,
        pp=mesh.pp,
        dp=mesh.dp,
        tp=mesh.tp,
        pp_rank=rank // inner,
        dp_rank=rank // mesh.tp % mesh.dp,
        tp_rank=rank % mesh.tp,
        tensor=_mine([list(range(first, first + mesh.tp)) for first in range(0, world, mesh.tp)]),
    )


def _mine(groups: list[list[int]]) -> dist.ProcessGroup | None:
    """Every rank takes part in making every group, in one order; a group of one needs none."""
    mine = None
    for ranks in groups if len(groups[0]) > 1 else ():
        group = dist.new_group(ranks)
        if dist.get_rank() in ranks:
            mine = group
    return mine
