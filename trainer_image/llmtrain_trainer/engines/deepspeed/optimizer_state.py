"""Fills DeepSpeed's optimizer on this rank with the weights and moments of a checkpoint.

A flat buffer is a vector that the optimizer trains: one weight, or slices of several weights and padding.
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
    """A range of elements of a weight in a flat buffer."""

    weight: nn.Parameter
    start: int
    """First element, in this rank's tensor-parallel shard of the weight."""

    count: int
    at: int
    """First element in the flat buffer."""


class OptimizerState(Protocol):
    """The flat buffers of an optimizer of DeepSpeed, to be filled one by one."""

    def buffers(self) -> Sequence[tuple[int, Sequence[FlatSlice]]]:
        """Length in elements of each flat buffer, and the slices of weights in it."""
        ...

    def fill(self, index: int, weights: torch.Tensor, state: Mapping[str, torch.Tensor]) -> None:
        """Fill flat buffer `index`, as after a step. `weights` and each moment in `state`: [length of the buffer], fp32."""
        ...

    def finish(self) -> None:
        """Call once all flat buffers are filled. Collective."""
        ...


def load(
    stored: Mapping[str, Weight],
    steps: int,
    state: OptimizerState,
    names: Mapping[nn.Parameter, str],
    cut: Mapping[str, int],
    place: DeepSpeedRank,
) -> None:
    """Fill an optimizer that has made no step with weights and moments that a run in any layout saved after `steps` steps. Collective.

    `names`: of weights, as they are saved. `cut`: dimension along which tp splits a weight, by name. Raises ValueError if the checkpoint
    lacks a weight.
    """
    for index, (length, parts) in enumerate(state.buffers()):
        vectors = {key: torch.zeros(length) for key in (WEIGHT, *(MOMENTS if steps else ()))}
        for part in parts:
            name = names[part.weight]
            if name not in stored:
                raise ValueError(f"the checkpoint does not hold {name}, which this run trains: was it written with other adapters?")
            for key, vector in vectors.items():
                where = (cut.get(name), place.tp_rank, place.tp, part.start, part.count)
                vector[part.at : part.at + part.count] = stored[name].share(key, *where)
        step = {"step": torch.tensor(float(steps))} if steps else {}
        state.fill(index, vectors.pop(WEIGHT), vectors | step)
    state.finish()


def optimizer_state_of(engine: Any) -> OptimizerState:
    """The optimizer state of a DeepSpeedEngine."""
    optimizer = engine.optimizer
    if engine.zero_optimization_stage() == 3:
        return Zero3State(optimizer)
    return Zero12State(optimizer) if engine.zero_optimization_stage() else TorchState(optimizer)


class TorchState:
    """ZeRO-0: an optimizer of torch."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        self._weights = [weight for group in optimizer.param_groups for weight in group["params"]]

    def buffers(self) -> Sequence[tuple[int, Sequence[FlatSlice]]]:
        """One for each weight."""
        return [(weight.numel(), [FlatSlice(weight, 0, weight.numel(), 0)]) for weight in self._weights]

    def fill(self, index: int, weights: torch.Tensor, state: Mapping[str, torch.Tensor]) -> None:
        weight = self._weights[index]
        weight.data.copy_(weights.view_as(weight))
        self._optimizer.state[weight] = {key: _like(weight, value, key) for key, value in state.items()}

    def finish(self) -> None:
        """There is nothing to do."""


class Zero12State:
    """ZeRO 1 and 2: the weights of a parameter group are concatenated, then split evenly over the replicas, also inside a weight."""

    def __init__(self, optimizer: Any) -> None:
        half = hasattr(optimizer, "bf16_groups")  # ZeRO-1 in bf16 is a class of its own
        self._optimizer = optimizer
        self._groups = optimizer.bf16_groups if half else optimizer.bit16_groups
        self._buffers = optimizer.fp32_groups_flat_partition if half else optimizer.single_partition_of_fp32_groups

    def buffers(self) -> Sequence[tuple[int, Sequence[FlatSlice]]]:
        """One for each parameter group."""
        return [(buffer.numel(), [*self._parts(group)]) for buffer, group in zip(self._buffers, self._groups, strict=True)]

    def _parts(self, group: Sequence[Any]) -> Iterator[FlatSlice]:
        for weight in group:
            if mapping := weight._hp_mapping:
                inside = mapping.lp_fragment_address
                yield FlatSlice(weight, inside.start, inside.numel, mapping.hp_fragment_address.start)

    def fill(self, index: int, weights: torch.Tensor, state: Mapping[str, torch.Tensor]) -> None:
        buffer = self._buffers[index]
        buffer.data.copy_(weights)
        self._optimizer.optimizer.state[buffer] = {key: _like(buffer, value, key) for key, value in state.items()}

    def finish(self) -> None:
        """All-gather the updated weights."""
        self._optimizer.update_lp_params()


class Zero3State:
    """ZeRO-3: each replica holds a shard of every weight. A flat buffer is a sub-group of shards, and may be swapped out to disk."""

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer
        optimizer.checkpoint_event_prologue()
        if optimizer.swap_optimizer:
            optimizer.optimizer_swapper.purge_state()

    def buffers(self) -> Sequence[tuple[int, Sequence[FlatSlice]]]:
        """One for each sub-group."""
        lengths = self._optimizer.fp16_partitioned_groups_flat_numel  # a buffer on disk has no length itself
        return [(length, [*self._parts(group)]) for length, group in zip(lengths, self._optimizer.fp16_groups, strict=True)]

    def _parts(self, group: Sequence[Any]) -> Iterator[FlatSlice]:
        """The last shards of a weight may be shorter than the others, or empty."""
        shards = [weight.partition_numel() for weight in group]
        for weight, shard, at in zip(group, shards, itertools.accumulate(shards, initial=0), strict=False):
            start = min(shard * self._optimizer._get_param_partition_rank(weight), weight.ds_numel)
            yield FlatSlice(weight, start, min(shard, weight.ds_numel - start), at)

    def fill(self, index: int, weights: torch.Tensor, state: Mapping[str, torch.Tensor]) -> None:
        """As OptimizerState.fill; a buffer that is swapped out is read from disk and written back."""
        optimizer, buffer = self._optimizer, self._optimizer.fp32_partitioned_groups_flat[index]
        swapped = optimizer._swappable_optimizer_subgroup(index)  # buffers under one mebibyte are not swapped
        if swapped:
            optimizer._optimizer_states_and_gradient_swap_in(index)
        buffer.data.copy_(weights)
        optimizer.optimizer.state[buffer] = {key: _like(buffer, value, key) for key, value in state.items()}
        optimizer._reassign_or_swap_out_partitioned_parameters(index)
        if swapped:
            optimizer._optimizer_states_and_gradient_swap_out(index)

    def finish(self) -> None:
        """All-gather the weights that DeepSpeed keeps unsharded."""
        optimizer = self._optimizer
        if optimizer.persistent_parameters:
            optimizer.persistent_parameters[0].partition(optimizer.persistent_parameters)
        optimizer.checkpoint_event_epilogue()


def _like(buffer: torch.Tensor, value: torch.Tensor, key: str) -> torch.Tensor:
    """A copy on the device of the optimizer's buffer. The fused optimizer keeps its step count on that device too."""
    made = torch.empty_like(value, device=buffer.device) if key == "step" else torch.empty_like(buffer)
    return made.copy_(value.view(made.shape))
