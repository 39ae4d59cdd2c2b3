"""Whole weights on rank 0, gathered one by one over tensor, data and pipeline parallelism."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from llmtrain_trainer.engines.native.mesh import ParallelDims
from llmtrain_trainer.model.stage import Stage
from llmtrain_trainer.rendezvous.tell_all import from_each


class NativeGatherer:
    """The weights of engine native."""

    def __init__(self, dims: ParallelDims, stages: Sequence[Stage]) -> None:
        self._dims = dims
        logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)  # each rank's advice on gathers that come once
        self._held: dict[str, torch.Tensor] = {name: weight for stage in stages for name, weight in (*stage.names(), *stage.constants())}
        held = from_each({name: list(weight.shape) for name, weight in self._held.items()})
        self.shapes: dict[str, torch.Size] = {}
        self._source: dict[str, int] = {}
        for rank, names in enumerate(held):
            for name, shape in names.items():
                self.shapes.setdefault(name, torch.Size(shape))
                self._source.setdefault(name, rank)

    def read(self, name: str) -> torch.Tensor | None:
        """The unsplit weight in fp32 on rank 0's CPU; None on the others. Collective."""
        source, rank = self._source[name], dist.get_rank()
        whole: torch.Tensor | None = None
        if name in self._held and self._dims.pp_rank == source // (self._dims.replicas * self._dims.tp):
            weight = self._held[name].detach()
            whole = (weight.full_tensor() if isinstance(weight, DTensor) else weight).float().contiguous()
        if source == 0:
            return whole.cpu() if rank == 0 and whole is not None else None
        if rank == source and whole is not None:
            dist.send(whole, dst=0)
        if rank == 0:
            landed = torch.empty(self.shapes[name], device=self._dims.device)
            dist.recv(landed, src=source)
            return landed.cpu()
        return None
