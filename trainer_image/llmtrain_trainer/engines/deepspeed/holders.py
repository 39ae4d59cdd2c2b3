"""Where DeepSpeed's optimizer keeps weights and moments on this rank, and how a checkpoint's get there.

A flat is a vector that the optimizer trains: a weight of its own, or parts of several and padding.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from llmtrain_trainer.checkpoint_readers.reader import MOMENTS, WEIGHT
from llmtrain_trainer.engines.deepspeed.files import Weight
from llmtrain_trainer.engines.deepspeed.place import DeepSpeedRank


@dataclass(frozen=True, slots=True)
class FlatSlice:
    """A range of elements of a weight that lies in a flat."""

    weight: nn.Parameter
    start: int
    """In this rank's shard of the weight."""

    count: int
    at: int
    """In the flat."""


class Holder(Protocol):
    """An optimizer of DeepSpeed."""

    def flats(self) -> Sequence[tuple[int, Sequence[FlatSlice]]]:
        """Of each flat its length in elements, and which slices of weights are in it."""
        ...

    def put(self, index: int, weights: torch.Tensor, state: Mapping[str, torch.Tensor]) -> None:
        """Fill flat `index`, as after a step. `weights` and each moment of `state`: [length of the flat], fp32."""
        ...

    def finish(self) -> None:
        """All flats are filled. Collective."""
        ...


def load(
    stored: Mapping[str, Weight],
    steps: int,
    holder: Holder,
    names: Mapping[nn.Parameter, str],
    cut: Mapping[str, int],
    place: DeepSpeedRank,
) -> None:
    """Fill an optimizer that has made no step with what a run in any layout has saved after `steps`. Collective.

    Raises ValueError where the checkpoint lacks a weight.
    """
    for index, (length, parts) in enumerate(holder.flats()):
        vectors = {key: torch.zeros(length) for key in (WEIGHT, *(MOMENTS if steps else ()))}
        for part in parts:
            name = names[part.weight]
            if name not in stored:
                raise ValueError(f"the checkpoint does not hold {name}, which this run trains: was it written with other adapters?")
            for key, vector in vectors.items():
                where = (cut.get(name), place.tp_rank, place.tp, part.start, part.count)
                vector[part.at : part.at + part.count] = stored[name].share(key, *where)
        step = {"step": torch.tensor(float(steps))} if steps else {}
        holder.put(index, vectors.pop(WEIGHT), vectors | step)
    holder.finish()


def holder_of(engine: Any) -> Holder:
    """Of a DeepSpeedEngine."""
    optimizer = engine.optimizer
    if engine.zero_optimization_stage() == 3:
        return Scattered(optimizer)
    return Shared(optimizer) if engine.zero_optimization_stage() else Whole(optimizer)


class Whole:
    """Without ZeRO: torch's own."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        self._weights = [weight for group in optimizer.param_groups for weight in group["params"]]

    def flats(self) -> Sequence[tuple[int, Sequence[FlatSlice]]]:
        """A weight each."""
        return [(weight.numel(), [FlatSlice(weight, 0, weight.numel(), 0)]) for weight in self._weights]

    def put(self, index: int, weights: torch.Tensor, state: Mapping[str, torch.Tensor]) -> None:
        weight = self._weights[index]
        weight.data.copy_(weights.view_as(weight))
        self._optimizer.state[weight] = {key: _like(weight, value, key) for key, value in state.items()}

    def finish(self) -> None:
        """Nothing is elsewhere."""


class Shared:
    """ZeRO 1 and 2: the weights of a group one after the other, cut into as many flats as there are replicas, wherever that falls."""

    def __init__(self, optimizer: Any) -> None:
        half = hasattr(optimizer, "bf16_groups")  # ZeRO-1 in bf16 is a class of its own
        self._optimizer = optimizer
        self._groups = optimizer.bf16_groups if half else optimizer.bit16_groups
        self._flats = optimizer.fp32_groups_flat_partition if half else optimizer.single_partition_of_fp32_groups

    def flats(self) -> Sequence[tuple[int, Sequence[FlatSlice]]]:
        """One a group."""
        return [(flat.numel(), [*self._parts(group)]) for flat, group in zip(self._flats, self._groups, strict=True)]

    def _parts(self, group: Sequence[Any]) -> Iterator[FlatSlice]:
        for weight in group:
            if mapping := weight._hp_mapping:
                inside = mapping.lp_fragment_address
                yield FlatSlice(weight, inside.start, inside.numel, mapping.hp_fragment_address.start)

    def put(self, index: int, weights: torch.Tensor, state: Mapping[str, torch.Tensor]) -> None:
        flat = self._flats[index]
        flat.data.copy_(weights)
        self._optimizer.optimizer.state[flat] = {key: _like(flat, value, key) for key, value in state.items()}

    def finish(self) -> None:
        """Every replica gets the weights of all."""
        self._optimizer.update_lp_params()


class Scattered:
    """ZeRO-3: a share of every weight. A flat is a sub-group of them, and may be on a disk."""

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer
        optimizer.checkpoint_event_prologue()
        if optimizer.swap_optimizer:
            optimizer.optimizer_swapper.purge_state()

    def flats(self) -> Sequence[tuple[int, Sequence[FlatSlice]]]:
        """One a sub-group."""
        lengths = self._optimizer.fp16_partitioned_groups_flat_numel  # a flat on the disk has none itself
        return [(length, [*self._parts(group)]) for length, group in zip(lengths, self._optimizer.fp16_groups, strict=True)]

    def _parts(self, group: Sequence[Any]) -> Iterator[FlatSlice]:
        """The last shares of a weight may be shorter than the others, or empty."""
        shares = [weight.partition_numel() for weight in group]
        for weight, share, at in zip(group, shares, itertools.accumulate(shares, initial=0), strict=False):
            start = min(share * self._optimizer._get_param_partition_rank(weight), weight.ds_numel)
            yield FlatSlice(weight, start, min(share, weight.ds_numel - start), at)

    def put(self, index: int, weights: torch.Tensor, state: Mapping[str, torch.Tensor]) -> None:
        optimizer, flat = self._optimizer, self._optimizer.fp32_partitioned_groups_flat[index]
        swapped = optimizer._swappable_optimizer_subgroup(index)  # one of less than a mebibyte is not
        if swapped:
            optimizer._optimizer_states_and_gradient_swap_in(index)
        flat.data.copy_(weights)
        optimizer.optimizer.state[flat] = {key: _like(flat, value, key) for key, value in state.items()}
        optimizer._reassign_or_swap_out_partitioned_parameters(index)
        if swapped:
            optimizer._optimizer_states_and_gradient_swap_out(index)

    def finish(self) -> None:
        """Weights that stay whole are gathered again."""
        optimizer = self._optimizer
        if optimizer.persistent_parameters:
            optimizer.persistent_parameters[0].partition(optimizer.persistent_parameters)
        optimizer.checkpoint_event_epilogue()


def _like(flat: torch.Tensor, value: torch.Tensor, key: str) -> torch.Tensor:
    """A copy where the optimizer wants it: the fused one has its count of steps beside the weights."""
    made = torch.empty_like(value, device=flat.device) if key == "step" else torch.empty_like(flat)
    return made.copy_(value.view(made.shape))
