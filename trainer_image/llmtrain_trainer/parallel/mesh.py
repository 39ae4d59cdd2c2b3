"""The device mesh of one run: axes pp, dp, tp, outer to inner, and the groups that cross them. Called by engines/native.py."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from llmtrain_trainer.config import Mesh


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where this rank stands, and the process groups it speaks in."""

    mesh: DeviceMesh
    device: torch.device
    pp: int
    dp: int
    tp: int
    pp_rank: int
    dp_rank: int
    tp_rank: int
    zero_stage: int
    ends: dist.ProcessGroup | None
    """First and last pipeline rank of this (dp, tp) coordinate, which both hold a tied embedding; None elsewhere and where pp is 1."""

    @property
    def pipeline(self) -> dist.ProcessGroup:
        """Ranks that hold the other stages of this replica."""
        return self.mesh.get_group("pp")

    @property
    def tensor(self) -> dist.ProcessGroup:
        """Ranks that hold the other shards of this rank's layers."""
        return self.mesh.get_group("tp")

    @property
    def data(self) -> DeviceMesh:
        """What FSDP2 works on: 1-D shards over dp; 2-D (replicate, shard by one) keeps whole replicas, which is ZeRO 0."""
        return self.mesh["dp", "whole"] if self.zero_stage == 0 else self.mesh["dp"]

    def rank_of(self, pp: int, dp: int, tp: int) -> int:
        """Global rank at a coordinate."""
        return (pp * self.dp + dp) * self.tp + tp


def build_layout(mesh: Mesh, device: torch.device) -> Layout:
    """The mesh over all ranks of the default process group. Collective.

    Raises ValueError where the mesh asks for axes this engine does not have, or for another number of ranks than there are.
    """
    _refuse(mesh)
    axes = {"pp": mesh.pp, "dp": mesh.dp} | ({"whole": 1} if mesh.zero_stage == 0 else {}) | {"tp": mesh.tp}
    devices = init_device_mesh(device.type, tuple(axes.values()), mesh_dim_names=tuple(axes))
    return Layout(
        mesh=devices,
        device=device,
        pp=mesh.pp,
        dp=mesh.dp,
        tp=mesh.tp,
        pp_rank=devices.get_local_rank("pp"),
        dp_rank=devices.get_local_rank("dp"),
        tp_rank=devices.get_local_rank("tp"),
        zero_stage=mesh.zero_stage,
        ends=_ends(mesh),
    )


def _refuse(mesh: Mesh) -> None:
    for axis in ("cp", "ep"):
        if getattr(mesh, axis) != 1:
            raise ValueError(f"mesh.{axis} is {getattr(mesh, axis)}, but the native engine has no {axis} axis: set it to 1")
    world = dist.get_world_size()
    if mesh.world_size != world:
        raise ValueError(f"mesh pp {mesh.pp} x dp {mesh.dp} x tp {mesh.tp} needs {mesh.world_size} ranks, but {world} are running")
    if len(mesh.stages) % mesh.pp or (mesh.pp == 1 and len(mesh.stages) != 1):
        raise ValueError(f"mesh.stages has {len(mesh.stages)} ranges, but pp {mesh.pp} needs a multiple of it (one where pp is 1)")


def _ends(mesh: Mesh) -> dist.ProcessGroup | None:
    """Every rank must take part in making every group, so all of them are made here in one order."""
    if mesh.pp == 1:
        return None
    mine, inner = None, mesh.dp * mesh.tp
    for offset in range(inner):
        ranks = [offset, (mesh.pp - 1) * inner + offset]
        group = dist.new_group(ranks)
        if dist.get_rank() in ranks:
            mine = group
    return mine
