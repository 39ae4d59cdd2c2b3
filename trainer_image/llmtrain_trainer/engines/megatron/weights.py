"""Weights between Hugging Face's names and Megatron's: how the tensors of a row of names.py are joined, cut and taken apart again."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from megatron.core.models.gpt.gpt_model import GPTModel
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.engines.megatron.names import FAMILIES, FUSED, WeightLayout
from llmtrain_trainer.engines.megatron.settings import head_size
from llmtrain_trainer.model.materialize import materialize
from llmtrain_trainer.model.pretrained import Pretrained
from llmtrain_trainer.model.published_names import split
from llmtrain_trainer.model.stage import tied_names

EMBEDDING, HEAD = "embedding.word_embeddings.weight", "output_layer.weight"
_NUMBERS = re.compile(
    r"(?<=\blayers\.)(?P<layer>\d+)|(?<=\blocal_experts\.)(?P<expert>\d+)|(?<=experts\.linear_fc[12]\.weight)(?P<fused>\d+)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """Attention heads of the whole model: `groups` key-value heads, each with `per_group` query heads of `size` elements."""

    groups: int
    per_group: int
    size: int


def heads_of(shape: PreTrainedConfig) -> Heads:
    """From the model's Hugging Face config."""
    groups = shape.num_key_value_heads
    return Heads(groups=groups, per_group=shape.num_attention_heads // groups, size=head_size(shape))


def part_of(kind: WeightLayout, theirs: Sequence[torch.Tensor], heads: Heads, degree: int, rank: int) -> torch.Tensor:
    """The part that tensor-parallel rank `rank` of `degree` holds of the Megatron weight made up of `theirs`, each [out, in] or [out]."""
    if kind is WeightLayout.WHOLE:
        return theirs[0]
    if kind is WeightLayout.ROW:
        return theirs[0].chunk(degree, dim=1)[rank]
    if kind is WeightLayout.QKV:
        groups = [tensor.reshape(heads.groups, -1, *tensor.shape[1:]) for tensor in theirs]
        return torch.cat(groups, dim=1).flatten(0, 1).chunk(degree)[rank]
    return torch.cat([tensor.chunk(degree)[rank] for tensor in theirs])


def theirs_of(kind: WeightLayout, parts: Sequence[torch.Tensor], heads: Heads) -> tuple[torch.Tensor, ...]:
    """The inverse of `part_of`, from the parts of all tensor-parallel ranks in order: each [out, in] or [out]."""
    if kind is WeightLayout.WHOLE:
        return (parts[0],)
    if kind is WeightLayout.ROW:
        return (torch.cat(list(parts), dim=1),)
    if kind is WeightLayout.COLUMN:
        return (torch.cat(list(parts)),)
    if kind is WeightLayout.GATED:
        halves = [part.chunk(2) for part in parts]
        return tuple(torch.cat([half[side] for half in halves]) for side in range(2))
    fused = torch.cat(list(parts))
    groups = fused.reshape(heads.groups, -1, *fused.shape[1:])
    sizes = [heads.per_group * heads.size, heads.size, heads.size]
    return tuple(tensor.flatten(0, 1) for tensor in torch.split(groups, sizes, dim=1))


@dataclass(frozen=True, slots=True, kw_only=True)
class MegatronWeight:
    """One weight of a rank, and the Hugging Face weights that it is made of."""

    name: str
    """Megatron's, with the numbers of the whole model."""

    kind: WeightLayout
    theirs: tuple[str, ...]
    weight: nn.Parameter

    def part(self, source: PublishedFiles, heads: Heads, degree: int, rank: int) -> torch.Tensor:
        """The part that tensor-parallel rank `rank` of `degree` holds: [*weight.shape]."""
        return part_of(self.kind, [source.read(name) for name in self.theirs], heads, degree, rank)


def held_by(chunks: Sequence[GPTModel], shape: PreTrainedConfig, first_expert: int) -> Iterator[MegatronWeight]:
    """Every weight of a rank's stages. Raises KeyError for one that the family's table lacks."""
    rows = {row.ours: row for row in FAMILIES[shape.model_type]}
    for chunk in chunks:
        layers = [layer.layer_number - 1 for layer in chunk.decoder.layers]
        for local, weight in chunk.named_parameters():
            pattern, numbers = numbered(local, layers, first_expert)
            ours = FUSED.get(pattern, pattern)
            row = rows[EMBEDDING if ours == HEAD and shape.tie_word_embeddings else ours]
            names = tuple(name.format(**numbers) for name in row.theirs)
            yield MegatronWeight(name=ours.format(**numbers), kind=row.kind, theirs=names, weight=weight)


def numbered(local: str, layers: Sequence[int], first_expert: int) -> tuple[str, dict[str, int]]:
    """A parameter's name with its numbers taken out, and these numbers in the whole model."""
    numbers: dict[str, int] = {}

    def take(match: re.Match[str]) -> str:
        number = int(match[0])
        if match["layer"]:
            numbers["layer"] = layers[number]
            return "{layer}"
        numbers["expert"] = first_expert + number
        return "{expert}"

    return _NUMBERS.sub(take, local), numbers


class PublishedFiles(Protocol):
    """Where Hugging Face's weights come from, by the names of the published files."""

    def read(self, name: str) -> torch.Tensor: ...


class Drawn:
    """Random weights, module by module as the native engine draws them; of the layers the last one asked for is kept."""

    def __init__(self, network: PreTrainedModel, seed: int) -> None:
        """`network`: the model on the meta device."""
        self._network, self._seed = network, seed
        self._under = ""
        self._found: dict[str, torch.Tensor] = {}

    def read(self, name: str) -> torch.Tensor:
        """One weight, on the CPU in fp32."""
        layer = re.match(r"model\.layers\.\d+", name)
        under = layer[0] if layer else name.rpartition(".")[0]
        if under != self._under:
            materialize(self._network, under, None, self._seed, torch.device("cpu"))
            module = self._network.get_submodule(under)
            kind, drawn = self._network.config.model_type, dict(module.named_parameters(prefix=under))
            self._found = {part: weight.detach()[index] for key, weight in drawn.items() for part, index in split(kind, key, weight.shape)}
            self._under = under
            module.to("meta")
        return self._found[name]


def source_of(config: TrainerConfig, network: PreTrainedModel, model_dir: Path) -> PublishedFiles:
    """Files, or the seed."""
    if config.model.config is not None or config.model.init == "random":
        return Drawn(network, config.training.seed)
    return Pretrained(model_dir, network.base_model_prefix, tied_names(network))


@torch.no_grad()
def fill(held: Sequence[MegatronWeight], source: PublishedFiles, heads: Heads, degree: int, rank: int) -> None:
    """Give every weight its values. Layers are asked for in order, one after another."""
    for weight in held:
        weight.weight.copy_(weight.part(source, heads, degree, rank))
