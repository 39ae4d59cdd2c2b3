"""Whole Hugging Face weights on rank 0 from Megatron's parts on all ranks, one row of names.py at a time.

Made by engine.py for an export.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist

from llmtrain_trainer.engines.megatron.names import WeightLayout
from llmtrain_trainer.engines.megatron.weights import Heads, MegatronWeight, theirs_of
from llmtrain_trainer.rendezvous.tell_all import from_each


class MegatronGatherer:
    """Collective: every rank asks for the same names in the same order."""

    def __init__(self, held: Sequence[MegatronWeight], heads: Heads, degree: int) -> None:
        """`held`: this rank's weights. `degree`: of tensor parallelism, whose ranks are neighbours."""
        self._held, self._heads, self._degree = {weight.name: weight for weight in held}, heads, degree
        every = from_each({weight.name: (weight.kind.name, weight.theirs, list(weight.weight.shape)) for weight in held})
        self._rows: dict[str, tuple[WeightLayout, tuple[str, ...], torch.Size]] = {}
        self._sources: dict[str, dict[int, int]] = {}
        for rank, rows in enumerate(every):
            for name, (kind, theirs, shape) in rows.items():
                self._rows.setdefault(name, (WeightLayout[kind], tuple(theirs), torch.Size(shape)))
                self._sources.setdefault(name, {}).setdefault(rank % degree, rank)
        self._row_of = {their: name for name, (_, theirs, _) in self._rows.items() for their in theirs}
        self.shapes = {their: shape for name in self._rows for their, shape in self._shapes(name).items()}
        self._kept: tuple[str, dict[str, torch.Tensor]] = ("", {})

    def read(self, name: str) -> torch.Tensor | None:
        """The unsplit weight on rank 0's CPU; None on the others. Collective. The last Megatron weight is cached: it holds q, k and v."""
        row = self._row_of[name]
        if row != self._kept[0]:
            self._kept = (row, self._collect(row))
        return self._kept[1].get(name)

    def _shapes(self, name: str) -> dict[str, torch.Size]:
        kind, theirs, shape = self._rows[name]
        parts = [torch.empty(shape, device="meta")] * self._degree
        return {their: tensor.shape for their, tensor in zip(theirs, theirs_of(kind, parts, self._heads), strict=True)}

    def _collect(self, name: str) -> dict[str, torch.Tensor]:
        kind, theirs, _ = self._rows[name]
        count = 1 if kind is WeightLayout.WHOLE else self._degree
        parts = [self._fetch(name, self._sources[name][rank]) for rank in range(count)]
        here = [part for part in parts if part is not None]
        if dist.get_rank() != 0:
            return {}
        return dict(zip(theirs, theirs_of(kind, here, self._heads), strict=True))

    def _fetch(self, name: str, source: int) -> torch.Tensor | None:
        """One rank's part, on rank 0's CPU."""
        rank, held = dist.get_rank(), self._held.get(name)
        if rank == source and held is not None:
            part = held.weight.detach()
            if rank == 0:
                return part.cpu()
            dist.send(part.contiguous(), dst=0)
        if rank != 0:
            return None
        any_weight = next(iter(self._held.values())).weight
        landed = torch.empty(self._rows[name][2], dtype=any_weight.dtype, device=any_weight.device)
        dist.recv(landed, src=source)
        return landed.cpu()
