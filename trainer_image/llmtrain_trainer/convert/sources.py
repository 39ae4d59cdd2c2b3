"""Weights of each format, whole and one at a time, by the names of transformers' model or of published files. Used by command.py."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import AutoConfig, PreTrainedConfig

from llmtrain_trainer.checkpoint.manifest import METADATA, Meta
from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.convert.parts import Parts
from llmtrain_trainer.data.bad_data import BadData


class Source(Protocol):
    """What targets.py writes from."""

    shapes: dict[str, torch.Size]

    def take(self, name: str) -> torch.Tensor:
        """A weight, on the CPU."""
        ...


class Native:
    """Every layout's: DCP knows none."""

    def __init__(self, _config: TrainerConfig, directory: Path, _model_dir: Path) -> None:
        self._parts = Parts(directory)
        self.shapes = {key.removeprefix("model."): shape for key, shape in self._parts.shapes.items() if key.startswith("model.")}

    def take(self, name: str) -> torch.Tensor:
        return self._parts.read(f"model.{name}")


class Megatron:
    """Every layout's: Megatron saves tensors of the whole model, all layers of a kind as one, and all experts of them."""

    def __init__(self, _config: TrainerConfig, directory: Path, model_dir: Path) -> None:
        from llmtrain_trainer.engines.megatron.weights import heads_of

        self._parts, shape = Parts(directory), AutoConfig.from_pretrained(model_dir)
        self._heads = heads_of(shape)
        self._places = _places(self._parts.shapes, shape)
        self._kept: tuple[Any, Mapping[str, torch.Tensor]] = (None, {})
        self.shapes = {}
        for name in self._places:
            self.shapes[name] = self._shape(name)

    def take(self, name: str) -> torch.Tensor:
        """Its row of the table is kept until another is asked for: q, k and v come from one."""
        key, at, kind, theirs = self._places[name]
        if self._kept[0] != (key, at):
            self._kept = ((key, at), self._apart(kind, theirs, self._parts.read(key, at)))
        return self._kept[1][name]

    def _shape(self, name: str) -> torch.Size:
        key, at, kind, theirs = self._places[name]
        return self._apart(kind, theirs, torch.empty(self._parts.shapes[key][len(at) :], device="meta"))[name].shape

    def _apart(self, kind: Any, theirs: tuple[str, ...], whole: torch.Tensor) -> dict[str, torch.Tensor]:
        from llmtrain_trainer.engines.megatron.weights import theirs_of

        return dict(zip(theirs, theirs_of(kind, [whole], self._heads), strict=True))


def _places(shapes: Mapping[str, torch.Size], shape: PreTrainedConfig) -> dict[str, tuple[str, tuple[int, ...], Any, tuple[str, ...]]]:
    """Published name -> (Megatron's key, index of layer and expert in it, how it is put together, the names that are). Raises BadData."""
    from llmtrain_trainer.engines.megatron.names import FAMILIES, FUSED

    if shape.model_type not in FAMILIES:
        raise BadData("model_type", shape.model_type, f"Megatron's names are known for {', '.join(FAMILIES)}", "Use such a model")
    folded = {plain: fused for fused, plain in FUSED.items()}
    places: dict[str, tuple[str, tuple[int, ...], Any, tuple[str, ...]]] = {}
    for row in FAMILIES[shape.model_type]:
        key = next((key for key in map(_stacked, (row.ours, folded.get(row.ours, row.ours))) if key in shapes), None)
        if key is None or (shape.tie_word_embeddings and row.theirs == ("lm_head.weight",)):
            continue
        counts = shapes[key][: len(set(re.findall(r"\{(\w+)\}", row.ours)))]
        for at in torch.cartesian_prod(*map(torch.arange, counts)).reshape(-1, len(counts)).tolist() if counts else [[]]:
            theirs = tuple(name.format(**dict(zip(("layer", "expert"), at, strict=False))) for name in row.theirs)
            places |= dict.fromkeys(theirs, (key, tuple(at), row.kind, theirs))
    return places


def _stacked(ours: str) -> str:
    """The key under which all layers, and all experts of them, are one tensor."""
    return ours.replace("layers.{layer}.", "layers.").replace("local_experts.{expert}.", "experts.")


def _deepspeed(config: TrainerConfig, directory: Path, model_dir: Path) -> Source:
    """Importing DeepSpeed takes seconds: for its files alone."""
    from llmtrain_trainer.convert.deepspeed import DeepSpeed

    return DeepSpeed(config, directory, model_dir)


SOURCES: dict[str, Callable[[TrainerConfig, Path, Path], Source]] = {"dcp": Native, "megatron": Megatron, "deepspeed": _deepspeed}
"""By the format that a checkpoint's manifest names."""


def open_source(config: TrainerConfig, directory: Path, model_dir: Path, meta: Meta) -> Source:
    """`directory`: a fetched checkpoint, every file verified. `config`: of a job with its model. Raises BadData."""
    if meta.format == "dcp" and not (directory / METADATA).exists():
        raise BadData("checkpoint", directory.name, f"it has no {METADATA}", "Give another one")
    return SOURCES[meta.format](config, directory, model_dir)
