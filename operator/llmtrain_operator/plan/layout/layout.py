"""Ranks in the mesh: coordinates, groups, groups that cross nodes, and the layers of each stage.

Rank order, outer to inner: pp, dp, cp, tp. Tensor-parallel ranks communicate most and are adjacent; pipeline neighbours communicate least
and may be on different nodes. Expert groups are consecutive ranks of dp x cp.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from math import gcd
from typing import Literal

from llmtrain_trainer.config import Mesh

Axis = Literal["pp", "dp", "cp", "tp", "ep"]
AXES: tuple[Axis, ...] = ("pp", "dp", "cp", "tp", "ep")


@dataclass(frozen=True, slots=True, kw_only=True)
class Coordinates:
    """Coordinates of a rank."""

    pp: int
    dp: int
    cp: int
    tp: int
    ep: int
    """Index of its part of the experts; follows from dp and cp."""


def degrees(mesh: Mesh) -> tuple[tuple[Axis, int], ...]:
    """The degrees above 1, in rank order; the expert degree last."""
    return tuple((axis, size) for axis in AXES if (size := getattr(mesh, axis)) > 1)


def coordinates(mesh: Mesh, rank: int) -> Coordinates:
    rest, tp = divmod(rank, mesh.tp)
    rest, cp = divmod(rest, mesh.cp)
    pp, dp = divmod(rest, mesh.dp)
    return Coordinates(pp=pp, dp=dp, cp=cp, tp=tp, ep=(dp * mesh.cp + cp) % mesh.ep)


def rank_of(mesh: Mesh, at: Coordinates) -> int:
    """The inverse of `coordinates`."""
    return ((at.pp * mesh.dp + at.dp) * mesh.cp + at.cp) * mesh.tp + at.tp


def node_of(mesh: Mesh, rank: int) -> int:
    return rank // mesh.procs_per_node


def groups(mesh: Mesh, axis: Axis) -> tuple[tuple[int, ...], ...]:
    """The groups of one axis: ranks that differ only in that coordinate. Every rank is in exactly one group."""
    size, stride = _extent(mesh, axis)
    starts = (rank for rank in range(mesh.world_size) if (rank // stride) % size == 0)
    return tuple(tuple(range(start, start + size * stride, stride)) for start in starts)


def _extent(mesh: Mesh, axis: Axis) -> tuple[int, int]:
    """Size of a group and stride between its ranks."""
    strides = {"tp": 1, "cp": mesh.tp, "dp": mesh.tp * mesh.cp, "pp": mesh.tp * mesh.cp * mesh.dp, "ep": mesh.tp}
    sizes = {"tp": mesh.tp, "cp": mesh.cp, "dp": mesh.dp, "pp": mesh.pp, "ep": mesh.ep}
    return sizes[axis], strides[axis]


def crossing(mesh: Mesh) -> Mapping[Axis, tuple[int, int]]:
    """For each axis with a degree above 1: (groups that span nodes, all groups)."""
    counted: dict[Axis, tuple[int, int]] = {}
    for axis in AXES:
        if _extent(mesh, axis)[0] == 1:
            continue
        counted[axis] = (_across(mesh, axis), mesh.world_size // _extent(mesh, axis)[0])
    return counted


def _across(mesh: Mesh, axis: Axis) -> int:
    """Number of groups that span nodes. Groups begin at q x block + r with r below the stride. The position of a block on its node is
    periodic, so only one period of blocks is counted, whatever the number of ranks."""
    size, stride = _extent(mesh, axis)
    block, local, span = size * stride, mesh.procs_per_node, (size - 1) * stride
    blocks = mesh.world_size // block
    if span >= local:
        return blocks * stride
    round_ = local // gcd(block, local)
    full, rest = divmod(blocks, round_)
    each = [_late(q * block % local, stride, local, span) for q in range(round_)]
    return full * sum(each) + sum(each[:rest])


def _late(begin: int, stride: int, local: int, span: int) -> int:
    """Of `stride` ranks from position `begin` on, the number for which the rank `span` further on is on another node."""

    def before(rank: int) -> int:
        return rank // local * span + max(0, rank % local - (local - span))

    return before(begin + stride) - before(begin)


def split_layers(layers: int, stages: int) -> tuple[tuple[int, int], ...]:
    """Half-open layer ranges, one per stage, in model order; sizes differ by at most one.

    If the layers do not divide, inner stages take one more, then the first: the first also has the embedding, and the last the LM head and
    the loss, which cost most. Needs layers >= stages.
    """
    least, more = divmod(layers, stages)
    heavier = [*range(1, stages - 1), 0][:more]
    chosen = frozenset(heavier)
    ends = tuple(accumulate(least + (stage in chosen) for stage in range(stages)))
    return tuple(zip((0, *ends), ends, strict=False))


def rank_grid(mesh: Mesh, most: int | None = None) -> tuple[tuple[Coordinates, ...], ...]:
    """For each node, or the first `most`, the coordinates of its ranks."""
    local, nodes = mesh.procs_per_node, mesh.nodes if most is None else min(most, mesh.nodes)
    return tuple(tuple(coordinates(mesh, node * local + index) for index in range(local)) for node in range(nodes))
