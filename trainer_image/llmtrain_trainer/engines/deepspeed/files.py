"""Weights and optimizer states out of the files of engine deepspeed, of any layout, by any process: a CheckpointReader.

Each pair of stage and tensor-parallel rank has written the shards of its weights: under ZeRO as shares of its replicas, in fp32. Files are
mapped: what is not asked for is not read.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from deepspeed.checkpoint.constants import (
    BASE_OPTIMIZER_STATE,
    FP32_FLAT_GROUPS,
    OPTIMIZER_STATE_DICT,
    PARAM_SHAPES,
    PARAM_SLICE_MAPPINGS,
    SINGLE_PARTITION_OF_FP32_GROUPS,
)
from deepspeed.runtime.fp16.loss_scaler import LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils.tensor_fragment import fragment_address
from deepspeed.utils.zero_to_fp32 import get_checkpoint_files, zero3_partitioned_param_info
from torch import nn

from llmtrain_trainer.checkpoint_readers.reader import MOMENTS, WEIGHT, CheckpointReader
from llmtrain_trainer.engines.deepspeed.pipeline import TABLE

NOTES = "llmtrain"
"""What a save adds to DeepSpeed's files, so that they can be read without the model."""

Pieces = tuple[torch.Tensor, ...]
Shapes = Mapping[str, torch.Size]


def notes(
    optimizer: torch.optim.Optimizer, weights: Mapping[str, nn.Parameter], cut: Mapping[str, int], theirs: Mapping[nn.Parameter, str]
) -> dict[str, Any]:
    """For each trained weight, in the optimizer's order: its name, the dimension that is split over tensor-parallel ranks, if any, and
    DeepSpeed's name of it. `theirs`: by weight.
    """
    names = [name for group in optimizer.param_groups for name in group["param_names"]]
    return {NOTES: [(name, cut.get(name), theirs[weights[name]]) for name in names]}


@dataclass(frozen=True, slots=True)
class TensorShard:
    """The part of a weight that one tensor-parallel rank holds."""

    shape: torch.Size
    held: Mapping[str, Pieces]
    """By WEIGHT and MOMENTS: flat views of the files, the elements in order, then padding. There are no moments before the first step."""

    def pieces(self, key: str) -> Iterator[torch.Tensor]:
        """Flat pieces [elements], in order, without the padding."""
        left = self.shape.numel()
        for piece in self.held[key]:
            yield piece.detach().flatten()[:left]
            left -= min(left, piece.numel())


@dataclass(frozen=True, slots=True)
class Weight:
    """A weight of the model, and its moments."""

    shards: tuple[TensorShard, ...]
    cut: int | None
    """The dimension that is split into shards. None: each shard holds the whole tensor."""

    @property
    def shape(self) -> torch.Size:
        """Shape of the unsplit weight."""
        shape = list(self.shards[0].shape)
        if self.cut is not None:
            shape[self.cut] = sum(shard.shape[self.cut] for shard in self.shards)
        return torch.Size(shape)

    def read(self, key: str = WEIGHT) -> torch.Tensor:
        """The unsplit weight [*shape] in fp32 on the CPU, or the moment of it that `key` names."""
        shards = [torch.cat(list(shard.pieces(key))).view(shard.shape).float() for shard in self._needed()]
        return shards[0] if self.cut is None else torch.cat(shards, self.cut)

    def share(self, key: str, cut: int | None, rank: int, ranks: int, start: int, count: int) -> torch.Tensor:
        """Elements `start` to `start + count` of the flat shard of tensor-parallel rank `rank` of `ranks`: [count], fp32, on the CPU.

        No more than that is read, unless the weight is split within its rows and was stored by another number of ranks.
        """
        shards = self._needed()
        if cut is not None and cut == self.cut and len(shards) == ranks:
            return _range(shards[rank].pieces(key), start, count)
        if not cut:  # of the whole, or of some of its rows: a range of its elements either way
            first = 0 if cut is None else rank * (self.shape.numel() // ranks)
            return self._of_whole(key, first + start, count)
        return self.read(key).chunk(ranks, cut)[rank].flatten()[start : start + count]

    def _of_whole(self, key: str, start: int, count: int) -> torch.Tensor:
        if self.cut:
            return self.read(key).flatten()[start : start + count]
        return _range(itertools.chain.from_iterable(shard.pieces(key) for shard in self._needed()), start, count)

    def _needed(self) -> Sequence[TensorShard]:
        return self.shards[:1] if self.cut is None else self.shards


def _range(pieces: Iterable[torch.Tensor], start: int, count: int) -> torch.Tensor:
    """Elements of flat pieces that follow each other."""
    found = [torch.empty(0)]
    for piece in pieces:
        if not count:
            break
        found.append(piece[start : start + count].float())
        start, count = max(0, start - piece.numel()), count - found[-1].numel()
    return torch.cat(found)


class DeepSpeedReader:
    """A checkpoint's; a CheckpointReader."""

    def __init__(self, directory: Path, _network: nn.Module | None = None) -> None:
        """Raises ValueError where a file does not say what it holds."""
        found: dict[str, list[TensorShard]] = defaultdict(list)
        cuts: dict[str, int | None] = {}
        steps: list[torch.Tensor] = []
        for rank in _ranks(directory):
            states, shares = _open(_paths(directory, rank, "model")[0]), [_open(path) for path in _paths(directory, rank, "optim")]
            if NOTES not in states:
                raise ValueError(f"{directory.name} does not say which weights its files hold: an older version wrote it")
            held = [share[OPTIMIZER_STATE_DICT] for share in shares]
            shards = dict(_joined(states[PARAM_SHAPES], held) if held else _whole(directory, rank, states))
            for name, cut, theirs in states[NOTES]:
                found[name].append(shards[theirs])
                cuts[name] = cut
            steps += [state["step"] for state in _adam(held[0] if held else states).values() if "step" in state]
        self.weights = {name: Weight(tuple(shards), cuts[name]) for name, shards in found.items()}
        """By name. What a pipeline holds at both ends has the shards of both, and no cut."""

        self.steps = int(steps[0].item()) if steps else 0

    @property
    def shapes(self) -> dict[str, torch.Size]:
        return {name: weight.shape for name, weight in self.weights.items()}

    def read(self, name: str, key: str = WEIGHT) -> torch.Tensor:
        return self.weights[name].read(key)


class Taken(Mapping[str, Pieces]):
    """What a CheckpointReader says of a weight, asked for when it is needed."""

    def __init__(self, source: CheckpointReader, name: str) -> None:
        self._source, self._name = source, name

    def __getitem__(self, key: str) -> Pieces:
        return (self._source.read(self._name, key),)

    def __iter__(self) -> Iterator[str]:
        return iter((WEIGHT, *MOMENTS) if self._source.steps else (WEIGHT,))

    def __len__(self) -> int:
        return len(list(iter(self)))


def weights_of(source: CheckpointReader) -> dict[str, Weight]:
    """Of another engine: whole."""
    return {name: Weight((TensorShard(shape, Taken(source, name)),), None) for name, shape in source.shapes.items()}


def _ranks(directory: Path) -> list[int]:
    """Stages times tensor-parallel ranks, which is how DeepSpeed numbers files."""
    names = (re.search(r"mp_rank_(\d+)_model_states\.pt$", path.name) for path in directory.iterdir())
    return sorted({int(name[1]) for name in names if name})


def _paths(directory: Path, rank: int, kind: str) -> list[str]:
    """Files of a rank in the order of its replicas. Empty where it has none of the kind."""
    pattern = f"*mp_rank_{rank:02d}_{kind}_states.pt"
    return list(get_checkpoint_files(str(directory), pattern)) if any(directory.glob(pattern)) else []


def _open(path: str) -> dict[str, Any]:
    """Mapped. Raises UnpicklingError for a file that names more than TORCH_NAMES of checkpoint/pickles.py does."""
    with torch.serialization.safe_globals([fragment_address, LossScaler, ZeroStageEnum, (_member, "builtins.getattr")]):
        opened: dict[str, Any] = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    return opened


def _member(owner: Any, name: str) -> ZeroStageEnum:
    """What stands for getattr, by which Python 3.11.0 to 3.11.3 writes members of enumerations."""
    if owner is not ZeroStageEnum:
        raise UnpicklingError("builtins.getattr")
    return ZeroStageEnum[name]


def _adam(held: Mapping[str, Any]) -> Mapping[int, Mapping[str, torch.Tensor]]:
    """The state of torch's optimizer."""
    key = next(key for key in (BASE_OPTIMIZER_STATE, OPTIMIZER_STATE_DICT, "optimizer") if key in held)
    state: Mapping[int, Mapping[str, torch.Tensor]] = held[key]["state"]
    return state


def _whole(directory: Path, rank: int, states: Mapping[str, Any]) -> Iterator[tuple[str, TensorShard]]:
    """Of a rank without ZeRO: weights with its model or with the layers of its stage, moments in the order of the notes."""
    weights = states["module"] if states["module"] is not None else _layers(directory, rank)
    adam = _adam(states)
    for index, (_, _, theirs) in enumerate(states[NOTES]):
        moments = {key: (value,) for key, value in adam.get(index, {}).items() if key in MOMENTS}
        yield theirs, TensorShard(weights[theirs].shape, {WEIGHT: (weights[theirs],)} | moments)


def _layers(directory: Path, rank: int) -> dict[str, torch.Tensor]:
    """Of all stages, for the tensor-parallel rank of this one, by the names that a pipeline gives them."""
    ranks = len(list(directory.glob("layer_00-*")))
    weights = {}
    for path in directory.glob(f"layer_*-model_{rank % ranks:02d}-*"):
        for name, weight in _open(str(path)).items():
            tied = name == "embedding.weight"
            weights[f"tied_modules.{TABLE}.{name}" if tied else f"{int(path.name.split('-')[0][6:])}.{name}"] = weight
    return weights


def _joined(groups: Sequence[Shapes], shares: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, TensorShard]]:
    """Out of the replicas' shares. `groups`: of the optimizer, in its order."""
    for index, shapes in enumerate(groups):
        parts = [_parts(share, index, shapes, len(shares)) for share in shares]
        for name, shape in shapes.items():
            yield name, TensorShard(shape, {key: tuple(part[key][name] for part in parts if name in part[key]) for key in parts[0]})


def _parts(share: Mapping[str, Any], index: int, shapes: Shapes, replicas: int) -> dict[str, dict[str, torch.Tensor]]:
    """What one replica holds of a group, by key and weight. ZeRO-3 shards each weight; the lower stages shard all of them as one, and note
    what lies where.
    """
    buffers = {key: value for key, value in _adam(share).get(index, {}).items() if key in MOMENTS}
    if FP32_FLAT_GROUPS in share:
        buffers[WEIGHT] = share[FP32_FLAT_GROUPS][index]
        sizes = [zero3_partitioned_param_info(shape.numel(), replicas)[0] for shape in shapes.values()]
        return {key: dict(zip(shapes, torch.split(flat, sizes), strict=True)) for key, flat in buffers.items()}
    buffers[WEIGHT] = share[SINGLE_PARTITION_OF_FP32_GROUPS][index]
    places = share[PARAM_SLICE_MAPPINGS][index]
    return {key: {name: flat.narrow(0, place.start, place.numel) for name, place in places.items()} for key, flat in buffers.items()}
