"""Checkpoints of engine megatron, which hold tensors of the whole model: all layers of a kind as one, and all experts of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from llmtrain_trainer.checkpoint_readers.parts import ShardReader
from llmtrain_trainer.checkpoint_readers.reader import WEIGHT
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.engines.megatron.names import FAMILIES, FUSED, WeightLayout
from llmtrain_trainer.engines.megatron.weights import heads_of, theirs_of
from llmtrain_trainer.model.published_names import split

_MASTERS = ("optimizer.state.param.", "optimizer.state.fp32_param.", "")
"""Where the fp32 weights are: in a sharded optimizer, in one that is not sharded in bf16, and in fp32, where they are the model's."""


@dataclass(frozen=True, slots=True)
class TensorLocation:
    """Where a published weight is."""

    key: str
    """Megatron's, of the model's tensor."""

    at: tuple[int, ...]
    """Layer and expert in it."""

    kind: WeightLayout
    theirs: tuple[str, ...]
    """The published weights that are put together there."""


class MegatronReader:
    """A CheckpointReader."""

    def __init__(self, directory: Path, network: PreTrainedModel) -> None:
        """`network`: the model on the meta device. Raises BadData where Megatron's names of it are not known."""
        self._parts, shape = ShardReader(directory), network.config
        self._heads, self._type = heads_of(shape), shape.model_type
        self._places = _places(self._parts.shapes, shape)
        self._kept: tuple[Any, Mapping[str, torch.Tensor]] = (None, {})
        held = ((name, self._whole(name, weight)) for name, weight in network.named_parameters())
        self.shapes = {name: shape for name, shape in held if shape is not None} | self._beyond(network)
        self.steps = int(torch.load(directory / "common.pt", weights_only=True)["steps"])

    def read(self, name: str, key: str = WEIGHT) -> torch.Tensor:
        """As CheckpointReader.read. The last Megatron weight is cached: q, k and v come from one."""
        whole = torch.empty(self.shapes[name])
        for published, index in split(self._type, name, whole.shape):
            whole[index] = self._published(published, key)
        return whole

    def _whole(self, name: str, weight: torch.Tensor) -> torch.Size | None:
        """The shape of `weight` where all its parts are there in theirs; None where one is missing, and that of one which has another."""
        for published, index in split(self._type, name, weight.shape):
            if published not in self._places:
                return None
            if self._shape(published) != weight[index].shape:
                return self._shape(published)
        return weight.shape

    def _beyond(self, network: PreTrainedModel) -> dict[str, torch.Size]:
        """Published weights that the model lacks."""
        known = {part for name, weight in network.named_parameters() for part, _ in split(self._type, name, weight.shape)}
        return {name: self._shape(name) for name in self._places if name not in known}

    def _published(self, name: str, key: str) -> torch.Tensor:
        place = self._places[name]
        if self._kept[0] != (place.key, place.at, key):
            self._kept = ((place.key, place.at, key), self._apart(place, self._parts.read(self._stored(place.key, key), place.at)))
        return self._kept[1][name]

    def _stored(self, ours: str, key: str) -> str:
        prefixes = _MASTERS if key == WEIGHT else (f"optimizer.state.{key}.",)
        return next(found for prefix in prefixes if (found := f"{prefix}{ours}") in self._parts.shapes)

    def _shape(self, name: str) -> torch.Size:
        place = self._places[name]
        return self._apart(place, torch.empty(self._parts.shapes[place.key][len(place.at) :], device="meta"))[name].shape

    def _apart(self, place: TensorLocation, whole: torch.Tensor) -> dict[str, torch.Tensor]:
        return dict(zip(place.theirs, theirs_of(place.kind, [whole], self._heads), strict=True))


def _places(shapes: Mapping[str, torch.Size], shape: PreTrainedConfig) -> dict[str, TensorLocation]:
    """By published name. Raises BadData."""
    if shape.model_type not in FAMILIES:
        raise BadData("model_type", shape.model_type, f"Megatron's names are known for {', '.join(FAMILIES)}", "Use such a model")
    folded = {plain: fused for fused, plain in FUSED.items()}
    places: dict[str, TensorLocation] = {}
    for row in FAMILIES[shape.model_type]:
        key = next((key for key in map(_stacked, (row.ours, folded.get(row.ours, row.ours))) if key in shapes), None)
        if key is None or (shape.tie_word_embeddings and row.theirs == ("lm_head.weight",)):
            continue
        counts = shapes[key][: len(set(re.findall(r"\{(\w+)\}", row.ours)))]
        for at in torch.cartesian_prod(*map(torch.arange, counts)).reshape(-1, len(counts)).tolist() if counts else [[]]:
            theirs = tuple(name.format(**dict(zip(("layer", "expert"), at, strict=False))) for name in row.theirs)
            places |= dict.fromkeys(theirs, TensorLocation(key, tuple(at), row.kind, theirs))
    return places


def _stacked(ours: str) -> str:
    """The key under which all layers, and all experts of them, are one tensor."""
    return ours.replace("layers.{layer}.", "layers.").replace("local_experts.{expert}.", "experts.")
