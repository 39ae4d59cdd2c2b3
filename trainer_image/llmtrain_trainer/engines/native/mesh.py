"""The device mesh of one run and the groups that cross it.

Rank order, outer to inner: pp, dp, cp, tp. Weights are sharded over all dp x cp ranks, axis `data`. Experts are distributed over
ep x tp ranks, axis `experts`; they are sharded over the dp x cp / ep ranks that hold the same ones, axis `expert_data`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from llmtrain_trainer.config import Mesh


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelDims:
    """This rank's coordinates on the mesh, and its process groups."""

    mesh: DeviceMesh
    """Axes pp, data, tp."""

    expert_mesh: DeviceMesh | None
    """The same ranks with axes pp, expert_data, experts; None if every rank holds all experts in full."""

    device: torch.device
    pp: int
    dp: int
    cp: int
    tp: int
    ep: int
    pp_rank: int
    dp_rank: int
    cp_rank: int
    tp_rank: int
    zero_stage: int
    context: dist.ProcessGroup | None
    """Ranks that hold the other parts of this rank's sequences; None where cp is 1."""

    expert: dist.ProcessGroup | None
    """Ranks that hold the other experts and exchange tokens with this one; None where ep is 1."""

    embedding_group: dist.ProcessGroup | None
    """First and last pipeline rank of this (dp, cp, tp) coordinate, which both hold a tied embedding; None elsewhere and where pp is 1."""

    @property
    def pipeline(self) -> dist.ProcessGroup:
        """Ranks that hold the other stages of this replica."""
        return self.mesh.get_group("pp")

    @property
    def tensor(self) -> dist.ProcessGroup:
        """Ranks that hold the other shards of this rank's layers."""
        return self.mesh.get_group("tp")

    @property
    def replicas(self) -> int:
        """Ranks that hold the same weights but see other tokens: dp x cp."""
        return self.dp * self.cp

    @property
    def replica_rank(self) -> int:
        """This rank's index among the replicas: 0 <= replica_rank < replicas."""
        return self.dp_rank * self.cp + self.cp_rank

    @property
    def data(self) -> DeviceMesh:
        """FSDP2's mesh: dp x cp, to shard over; with ZeRO 0 dp x cp to replicate over, and `shard1` of size 1, which shards nothing."""
        return _shared(self.mesh, "data", self.zero_stage)

    @property
    def expert_data(self) -> DeviceMesh:
        """FSDP2's mesh for experts that are distributed over ranks. Only where `expert_mesh` is set."""
        assert self.expert_mesh is not None
        return _shared(self.expert_mesh, "expert_data", self.zero_stage)

    def rank_of(self, pp: int, replica: int, tp: int) -> int:
        """Global rank at a coordinate."""
        return (pp * self.replicas + replica) * self.tp + tp


def _shared(mesh: DeviceMesh, axis: str, zero_stage: int) -> DeviceMesh:
    return mesh[axis, "shard1"] if zero_stage == 0 else mesh[axis]


def build_parallel_dims(mesh: Mesh, device: torch.device) -> ParallelDims:
    """The dimensions over all ranks of the default process group. Collective.

    Raises ValueError if the degrees of the mesh do not fit together, or their product is not the number of running ranks.
    """
    _refuse(mesh)
    replicas = mesh.dp * mesh.cp
    devices = _axes(mesh, device, data=replicas, tp=mesh.tp)
    inner, starts = replicas * mesh.tp, range(mesh.world_size)
    replica_rank = devices.get_local_rank("data")
    return ParallelDims(
        mesh=devices,
        expert_mesh=_axes(mesh, device, expert_data=replicas // mesh.ep, experts=mesh.ep * mesh.tp) if mesh.ep * mesh.tp > 1 else None,
        device=device,
        pp=mesh.pp,
        dp=mesh.dp,
        cp=mesh.cp,
        tp=mesh.tp,
        ep=mesh.ep,
        pp_rank=devices.get_local_rank("pp"),
        dp_rank=replica_rank // mesh.cp,
        cp_rank=replica_rank % mesh.cp,
        tp_rank=devices.get_local_rank("tp"),
        zero_stage=mesh.zero_stage,
        context=_mine(_runs(starts, mesh.cp, mesh.tp)),
        expert=_mine(_runs(starts, mesh.ep, mesh.tp)),
        embedding_group=_mine([offset, (mesh.pp - 1) * inner + offset] for offset in range(inner if mesh.pp > 1 else 0)),
    )


def _axes(mesh: Mesh, device: torch.device, **inner: int) -> DeviceMesh:
    """pp and two more axes; if nothing is sharded, `shard1` follows the first of them."""
    (outer, outer_size), rest = next(iter(inner.items())), dict(list(inner.items())[1:])
    axes = {"pp": mesh.pp, outer: outer_size} | ({"shard1": 1} if mesh.zero_stage == 0 else {}) | rest
    return init_device_mesh(device.type, tuple(axes.values()), mesh_dim_names=tuple(axes))


def _refuse(mesh: Mesh) -> None:
    world = dist.get_world_size()
    if mesh.world_size != world:
        degrees = f"pp {mesh.pp} x dp {mesh.dp} x cp {mesh.cp} x tp {mesh.tp}"
        raise ValueError(f"mesh {degrees} needs {mesh.world_size} ranks, but {world} are running")
    if (mesh.dp * mesh.cp) % mesh.ep:
        raise ValueError(f"mesh.ep is {mesh.ep}, but it must divide dp x cp ({mesh.dp * mesh.cp}): choose a degree that does")
    if len(mesh.stages) % mesh.pp or (mesh.pp == 1 and len(mesh.stages) != 1):
        raise ValueError(f"mesh.stages has {len(mesh.stages)} ranges, but pp {mesh.pp} needs a multiple of it (one where pp is 1)")


def _runs(ranks: Sequence[int], size: int, stride: int) -> Iterable[list[int]]:
    """Groups of `size` ranks, `stride` apart; none if a group would have one rank."""
    if size == 1:
        return []
    return [[first + place * stride for place in range(size)] for first in ranks if (first // stride) % size == 0]


def _mine(groups: Iterable[Sequence[int]]) -> dist.ProcessGroup | None:
    """The group of this rank. torch.distributed requires that every rank creates every group, in one order."""
    mine = None
    for ranks in groups:
        group = dist.new_group(list(ranks))
        if dist.get_rank() in ranks:
            mine = group
    return mine
