"""Whole weights out of any layout, one at a time, for exports."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from deepspeed.runtime.zero import GatheredParameters
from torch import nn

from llmtrain_trainer.engines.deepspeed.place import DeepSpeedRank
from llmtrain_trainer.rendezvous.tell_all import from_each


class DeepSpeedGatherer:
    """Whole weights on rank 0, by the names they are saved under. Collective: every rank asks for the same names in the same order."""

    def __init__(self, place: DeepSpeedRank, weights: Mapping[str, nn.Parameter], cut: Mapping[str, int]) -> None:
        """Collective."""
        self._place, self._weights, self._cut = place, weights, cut
        held = from_each({name: list(self._whole_shape(name)) for name in weights})
        self.shapes: dict[str, torch.Size] = {}
        self._stage: dict[str, int] = {}
        for stage in range(place.pp):
            for name, shape in held[place.first_rank_of(stage)].items():
                self.shapes.setdefault(name, torch.Size(shape))
                self._stage.setdefault(name, stage)

    def read(self, name: str) -> torch.Tensor | None:
        """The unsplit weight in fp32 on rank 0's CPU; None on the others. Collective."""
        stage, rank = self._stage[name], dist.get_rank()
        source = self._place.first_rank_of(stage)
        whole = self._whole(name) if self._place.pp_rank == stage else None
        if source and rank == source and whole is not None:
            dist.send(whole, dst=0)
        if source and rank == 0:
            whole = torch.empty(self.shapes[name], device=self._place.device)
            dist.recv(whole, src=source)
        return whole.cpu() if rank == 0 and whole is not None else None

    def _whole(self, name: str) -> torch.Tensor:
        """On every rank of the stage."""
        with GatheredParameters([self._weights[name]]):
            mine = self._weights[name].detach().float().contiguous()
            mine = mine.clone() if hasattr(self._weights[name], "ds_id") else mine
        if name not in self._cut or self._place.tensor is None:
            return mine
        parts = [torch.empty_like(mine) for _ in range(self._place.tp)]
        dist.all_gather(parts, mine, group=self._place.tensor)
        return torch.cat(parts, self._cut[name])

    def _whole_shape(self, name: str) -> list[int]:
        shape = list(getattr(self._weights[name], "ds_shape", self._weights[name].shape))
        if name in self._cut:
            shape[self._cut[name]] *= self._place.tp
        return shape
