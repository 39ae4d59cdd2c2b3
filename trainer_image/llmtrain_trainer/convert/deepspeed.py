"""Whole weights out of the files of engine deepspeed, of any layout, read by one process. Used by sources.py.

A file holds a rank's shards of the weights of its stage; under ZeRO it holds the rank's share of these shards, in fp32. Files are mapped: a
weight comes into memory when it is asked for.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from deepspeed.checkpoint.constants import (
    FP32_FLAT_GROUPS,
    OPTIMIZER_STATE_DICT,
    PARAM_SHAPES,
    PARAM_SLICE_MAPPINGS,
    SINGLE_PARTITION_OF_FP32_GROUPS,
)
from deepspeed.utils.zero_to_fp32 import get_checkpoint_files, zero3_partitioned_param_info

from llmtrain_trainer.checkpoint.manifest import Meta
from llmtrain_trainer.config import Mesh, TrainerConfig
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.engines.deepspeed.pipeline import TABLE
from llmtrain_trainer.parallel.assemble import skeleton
from llmtrain_trainer.parallel.stage import tied_names

Shapes = Mapping[str, torch.Size]


@dataclass(frozen=True, slots=True)
class Shard:
    """A weight of one tensor-parallel rank: all of it, or its part."""

    pieces: tuple[torch.Tensor, ...]
    """Views of files that hold its elements one after the other, and padding behind them."""

    shape: torch.Size

    def read(self) -> torch.Tensor:
        """In fp32, on the CPU."""
        return torch.cat([piece.detach().flatten() for piece in self.pieces])[: self.shape.numel()].view(self.shape).float()


class DeepSpeed:
    """A Source."""

    def __init__(self, config: TrainerConfig, directory: Path, model_dir: Path, meta: Meta) -> None:
        """`config`: says what the model is. Raises BadData where the weights are another's."""
        mesh, network = Mesh.model_validate(meta.mesh), skeleton(config, model_dir)
        table = next(iter(tied_names(network).values()), "")
        found: dict[str, list[Shard]] = defaultdict(list)
        for name, shard in _shards(directory, mesh):
            found[_plain(name, table)].append(shard)
        self._shards = {name: found[name] for name, _ in network.named_parameters() if name in found}
        missing = next((name for name, _ in network.named_parameters() if name not in found), None)
        if missing and config.peft is None:
            raise _another(f"the checkpoint does not hold its {missing}")
        self.shapes = {name: network.get_parameter(name).shape for name in self._shards}
        self._cut = {name: _cut(name, shards, self.shapes[name]) for name, shards in self._shards.items()}

    def take(self, name: str) -> torch.Tensor:
        """In fp32, on the CPU."""
        shards, cut = self._shards[name], self._cut[name]
        return shards[0].read() if cut is None else torch.cat([shard.read() for shard in shards], cut)


def _plain(name: str, table: str) -> str:
    """The model's own name of a weight: a pipeline numbers its entries, and calls the table that its ends share by a name of its own."""
    if name.removeprefix(f"tied_modules.{TABLE}.") == "embedding.weight":
        return table
    return re.sub(r"^(\d+\.)?network\.", "", name)


def _cut(name: str, shards: Sequence[Shard], whole: torch.Size) -> int | None:
    """The dimension that tensor-parallel ranks share out: the one that is smaller than the whole weight's. None: each holds all of it, as
    do both ends of a pipeline of the table that they share."""
    part = shards[0].shape
    if part == whole:
        return None
    for cut, size in enumerate(part):
        if torch.Size([*part[:cut], size * len(shards), *part[cut + 1 :]]) == whole:
            return cut
    raise _another(f"its {name} is {list(whole)}, and the checkpoint holds {len(shards)} of {list(part)}")


def _another(rule: str) -> BadData:
    return BadData("spec.model", "another one than the checkpoint's", rule, "Give the manifest of the job that wrote the checkpoint")


def _shards(directory: Path, mesh: Mesh) -> Iterator[tuple[str, Shard]]:
    """By DeepSpeed's names; those of a weight in the order of the tensor-parallel ranks."""
    if not any(directory.glob("*_optim_states.pt")):
        for path in get_checkpoint_files(str(directory), "layer_*" if mesh.pp > 1 else "mp_rank_*"):
            states = _open(path)
            for name, weight in (states if mesh.pp > 1 else states["module"]).items():
                yield name, Shard((weight,), weight.shape)
        return
    for rank in range(mesh.pp * mesh.tp):
        shares = get_checkpoint_files(str(directory), f"*_mp_rank_{rank:02d}_optim_states.pt")
        states = get_checkpoint_files(str(directory), f"*mp_rank_{rank:02d}_model_states.pt")
        yield from _joined(_open(states[0])[PARAM_SHAPES], [_open(path)[OPTIMIZER_STATE_DICT] for path in shares])


def _open(path: str) -> dict[str, Any]:
    opened: dict[str, Any] = torch.load(path, map_location="cpu", mmap=True, weights_only=False)
    return opened


def _joined(groups: Sequence[Shapes], shares: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Shard]]:
    """Shards out of the replicas' shares of them. `groups`: of the optimizer, in its order."""
    for index, shapes in enumerate(groups):
        pieces = [_pieces(share, index, shapes, len(shares)) for share in shares]
        for name, shape in shapes.items():
            yield name, Shard(tuple(piece[name] for piece in pieces if name in piece), shape)


def _pieces(share: Mapping[str, Any], index: int, shapes: Shapes, replicas: int) -> dict[str, torch.Tensor]:
    """What one replica holds of a group. ZeRO-3 shares out each weight; the lower stages all of them as one, and note what lies where."""
    if FP32_FLAT_GROUPS in share:
        sizes = [zero3_partitioned_param_info(shape.numel(), replicas)[0] for shape in shapes.values()]
        return dict(zip(shapes, share[FP32_FLAT_GROUPS][index].split(sizes), strict=True))
    flat, places = share[SINGLE_PARTITION_OF_FP32_GROUPS][index], share[PARAM_SLICE_MAPPINGS][index]
    return {name: flat.narrow(0, place.start, place.numel) for name, place in places.items()}
