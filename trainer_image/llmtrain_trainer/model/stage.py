"""Split of a Hugging Face decoder with its head into pipeline stages.

A stage is the whole model with what other stages hold taken out. Hugging Face's own forward runs it (masks, rotary embedding, soft
caps), and every parameter keeps its name, so that a checkpoint does not know the layout.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from llmtrain_trainer.config.tables.families import TRAINED, family_named
from llmtrain_trainer.config.tables.family import StageModuleNames
from llmtrain_trainer.model.heads import head_name, outputs_of
from llmtrain_trainer.objectives.objective import Objective
from llmtrain_trainer.objectives.sums import vector


class PassThrough(nn.Module):
    """In place of a layer, norm or head of another stage: returns its input, hidden states [rows, length, hidden]."""

    def forward(self, hidden: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return hidden


class ZeroEmbedding(nn.Module):
    """In place of an embedding of the first stage: returns a scalar zero for ids of any shape."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return torch.zeros((), device=ids.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One pipeline stage of a model."""

    network: PreTrainedModel
    """Called with (ids or hidden states, position_ids, the objective's columns by name); gives hidden states, on the last stage the
    loss and metrics of these rows, [1 + metrics]; outputs of the head where it is given no columns."""

    index: int
    count: int
    layers: tuple[tuple[str, nn.Module], ...]
    """This stage's layers by their full names."""

    head: str | None
    """Name of an output head that shares its weight with the embedding of another stage."""

    embedding: str | None
    """Name of the embedding that such a head shares, where this is the first of several stages."""

    @property
    def first(self) -> bool:
        return self.index == 0

    @property
    def last(self) -> bool:
        return self.index == self.count - 1

    def names(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Parameters under the names they are saved by: a tied head goes by its embedding's name."""
        tied = tied_names(self.network)
        for name, parameter in self.network.named_parameters():
            yield (tied[name] if name == self.head else name), parameter

    def constants(self) -> Iterator[tuple[str, torch.Tensor]]:
        """What files hold beside the parameters, and training leaves as it is."""
        for prefix, module in self.network.named_modules():
            yield from saved_buffers(module, prefix)


def parts_of(network: PreTrainedModel, count: int) -> StageModuleNames:
    """The names of the model's parts. Raises ValueError for more than one stage of a family that is not known."""
    kind, base = network.config.model_type, network.base_model
    if kind in TRAINED:
        return family_named(kind).parts or _planned(list(type(network.config).base_model_pp_plan), base)
    if count > 1:
        raise ValueError(
            f"model_type {kind} has no split into pipeline stages: set pipeline to 1, or use one of {', '.join(sorted(TRAINED))}"
        )
    lists = [name for name, child in base.named_children() if isinstance(child, nn.ModuleList)]
    if len(lists) != 1:
        raise ValueError(f"model_type {kind} keeps its layers in {lists or 'no list'}: the native engine needs exactly one list of layers")
    return StageModuleNames((), lists[0], ())


def _planned(names: list[str], base: nn.Module) -> StageModuleNames:
    """transformers' plan: the parts of the base model in the order of its forward."""
    layers = next(number for number, name in enumerate(names) if isinstance(getattr(base, name), nn.ModuleList))
    return StageModuleNames(tuple(names[:layers]), names[layers], tuple(names[layers + 1 :]))


def saved_buffers(module: nn.Module, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Buffers of the module itself that files hold, by their full names."""
    for name, buffer in module.named_buffers(prefix=prefix, recurse=False):
        if name.rpartition(".")[2] not in module._non_persistent_buffers_set:
            yield name, buffer


def tied_names(network: PreTrainedModel) -> dict[str, str]:
    """Head weight -> embedding weight, where the model ties them."""
    if not getattr(network.config, "tie_word_embeddings", False):
        return {}
    return dict(network._tied_weights_keys or {})


def cut(network: PreTrainedModel, index: int, ranges: tuple[tuple[int, int], ...], objective: Objective) -> Stage:
    """Take out of `network` (with its head, on the meta device) what stage `index` does not hold, and give it the stage's forward.

    `ranges`: half-open ranges of layers, one per stage. Raises ValueError if they do not cover all layers in order.
    """
    first, last, several = index == 0, index == len(ranges) - 1, len(ranges) > 1
    base, parts = network.base_model, parts_of(network, len(ranges))
    layers: nn.ModuleList = getattr(base, parts.layers)
    _check_cover(ranges, len(layers))
    prefix, tied = f"{network.base_model_prefix}.{parts.layers}", tied_names(network)
    head = head_name(network)
    mine = range(*ranges[index])
    for number in set(range(len(layers))) - set(mine):
        layers[number] = PassThrough()
    for name in () if first else parts.first_stage_only:
        setattr(base, name, ZeroEmbedding() if isinstance(getattr(base, name), nn.Embedding) else PassThrough())
    for name, nothing in () if first else family_named(network.config.model_type).between.items():
        setattr(base, name, nothing)
    for name in () if last else parts.last_stage_only:
        setattr(base, name, PassThrough())
    if not last:
        network.set_submodule(head, PassThrough())
    stage = Stage(
        network=network,
        index=index,
        count=len(ranges),
        layers=tuple((f"{prefix}.{number}", layers[number]) for number in mine),
        head=f"{head}.weight" if several and last and f"{head}.weight" in tied else None,
        embedding=tied.get(f"{head}.weight") if several and first else None,
    )
    _give_forward(stage, base, objective)
    return stage


def _check_cover(ranges: tuple[tuple[int, int], ...], layers: int) -> None:
    if [layer for begin, end in ranges for layer in range(begin, end)] != list(range(layers)) or any(begin >= end for begin, end in ranges):
        written = ", ".join(f"[{begin}, {end})" for begin, end in ranges)
        raise ValueError(f"mesh.stages is {written}, but it must hold layers 0 to {layers - 1} once each and in order, some in every stage")


def _give_forward(stage: Stage, base: Any, objective: Objective) -> None:
    """Set on the instance, not by a wrapping module: a wrapper would put its name in front of every parameter's."""
    whole = stage.network.forward

    def forward(x: torch.Tensor, position_ids: torch.Tensor | None = None, **columns: torch.Tensor) -> torch.Tensor:
        inputs = {"input_ids" if stage.first else "inputs_embeds": x, "position_ids": position_ids, "use_cache": False}
        if not stage.last:
            hidden: torch.Tensor = base(**inputs).last_hidden_state
            return hidden
        outputs = outputs_of(stage.network, objective.head, whole, inputs)
        return vector(objective, objective.loss(outputs, columns)) if columns else outputs

    object.__setattr__(stage.network, "forward", forward)
