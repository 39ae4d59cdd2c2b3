"""MoE experts distributed over ranks: each rank holds whole experts, and an all-to-all sends tokens to them.

Over ep, ranks have different tokens: an all-to-all sends them to the ranks that hold their experts, another returns the results
(Lepikhin et al. 2020, GShard). Over tp, ranks have the same tokens: each computes its own experts' part, and the parts are summed.
Router and expert arithmetic are Hugging Face's; an expert's gradient is complete on its rank after the reduction over its replicas.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from transformers import PreTrainedConfig, PreTrainedModel

from llmtrain_trainer.engines.native.collectives import all_to_all, copy_to_group, reduce_from_group
from llmtrain_trainer.engines.native.mesh import ParallelDims

NAME = "experts"
"""Last part of the module that holds the fused weights [experts, outputs, inputs] in Hugging Face's mixtures."""

NUMBER = "num_experts"
"""Its attribute with the number of experts."""


def of(network: nn.Module, under: str) -> Iterator[tuple[str, nn.Module]]:
    """The fused experts at or below the module named `under`."""
    for name, module in network.get_submodule(under).named_modules(prefix=under):
        if name.rpartition(".")[2] == NAME and hasattr(module, NUMBER):
            yield name, module


def check(config: PreTrainedConfig, dims: ParallelDims) -> None:
    """Raises ValueError if ep x tp does not divide the number of experts, or the model has no experts and ep > 1."""
    experts = getattr(config, "num_experts", None) or getattr(config, "num_local_experts", None)
    if not experts:
        if dims.ep > 1:
            raise ValueError(f"mesh.ep is {dims.ep}, but model_type {config.model_type} has no experts: set expert to 1")
        return
    if experts % (dims.ep * dims.tp):
        raise ValueError(
            f"the model has {experts} experts, which expert x tensor ({dims.ep} x {dims.tp}) does not divide: choose degrees that do"
        )


def split(network: PreTrainedModel, under: str, dims: ParallelDims) -> list[nn.Module]:
    """Keep only this rank's experts of every MoE layer below `under`, and exchange tokens. Returns the modules that it changed."""
    if dims.expert_mesh is None:
        return []
    found = [module for _, module in of(network, under)]
    for module in found:
        whole = int(getattr(module, NUMBER))
        for name, weight in list(module.named_parameters(recurse=False)):
            held = distribute_tensor(weight.detach(), dims.expert_mesh["experts"], [Shard(0)], src_data_rank=None)
            module.register_parameter(name, nn.Parameter(held, requires_grad=weight.requires_grad))
        setattr(module, NUMBER, whole // (dims.ep * dims.tp))
        object.__setattr__(module, "forward", _Travel(module, dims, whole))
    return found


class _Seen:
    """This rank's experts for their own forward: plain tensors instead of DTensors."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._module, name)
        return value.to_local() if isinstance(value, DTensor) else value


class _Travel:
    """The forward of distributed experts."""

    def __init__(self, module: nn.Module, dims: ParallelDims, experts: int) -> None:
        self._module, self._dims, self._experts = module, dims, experts

    def __call__(self, hidden: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """hidden [tokens, width], chosen experts and their weights [tokens, k] -> [tokens, width]."""
        dims = self._dims
        if dims.tp > 1:
            hidden, weights = copy_to_group(hidden, dims.tensor), copy_to_group(weights, dims.tensor)
        pairs = self._my_pairs(chosen)
        tokens = pairs // chosen.shape[1]
        results = self._through(hidden[tokens], chosen.flatten()[pairs])
        weighted = results * weights.flatten()[pairs, None]
        total = torch.zeros_like(hidden).index_add(0, tokens, weighted.to(hidden.dtype))
        return reduce_from_group(total, dims.tensor) if dims.tp > 1 else total

    def _my_pairs(self, chosen: torch.Tensor) -> torch.Tensor:
        """(token, choice) pairs whose expert is on this rank or its ep group, sorted by expert; experts are numbered over ep, then tp."""
        flat = chosen.flatten()
        pairs = torch.argsort(flat, stable=True)
        if self._dims.tp == 1:
            return pairs
        holder = flat[pairs] // (self._experts // (self._dims.ep * self._dims.tp))
        return pairs[holder % self._dims.tp == self._dims.tp_rank]

    def _through(self, rows: torch.Tensor, experts: torch.Tensor) -> torch.Tensor:
        """Each row through its expert, on whichever rank that is. `experts` is sorted."""
        dims, held = self._dims, self._experts // (self._dims.ep * self._dims.tp)
        local = torch.arange(held, device=rows.device)
        if dims.expert is None:
            return self._compute(rows, experts % held)
        # Rows for each of this rank's experts, and for each of its peers'.
        mine = local + dims.tp_rank * held + torch.arange(dims.ep, device=rows.device)[:, None] * held * dims.tp
        counts = torch.bincount(experts, minlength=self._experts)[mine]
        arriving = torch.empty_like(counts)
        dist.all_to_all_single(arriving, counts, group=dims.expert)
        sent, received = counts.sum(1).tolist(), arriving.sum(1).tolist()
        there = all_to_all(rows, dims.expert, sent, received)
        results = self._compute(there, local.repeat(dims.ep).repeat_interleave(arriving.flatten()))
        return all_to_all(results, dims.expert, received, sent)

    def _compute(self, rows: torch.Tensor, experts: torch.Tensor) -> torch.Tensor:
        """Rows through this rank's experts, and one row of zeros, so that every weight has a gradient: its replicas reduce it."""
        padded = torch.cat([rows, rows.new_zeros(1, rows.shape[1])])
        chosen = torch.cat([experts, experts.new_zeros(1)])[:, None]
        ones = torch.ones_like(chosen, dtype=rows.dtype)
        results: torch.Tensor = type(self._module).forward(_Seen(self._module), padded, chosen, ones)
        return results[:-1]
