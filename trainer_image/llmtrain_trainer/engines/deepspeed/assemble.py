"""The model of one rank, layer by layer: weights, split over tp, sharded over dp.

A rank holds a layer in full only while it builds that layer, so the model need not fit into one process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.engines.decay import decay_groups
from llmtrain_trainer.engines.deepspeed import tensor
from llmtrain_trainer.engines.deepspeed.place import DeepSpeedRank
from llmtrain_trainer.engines.native import router_balance
from llmtrain_trainer.engines.native.tensor import check, styles
from llmtrain_trainer.model.materialize import materialize, read_adapter
from llmtrain_trainer.model.pretrained import Pretrained
from llmtrain_trainer.model.skeleton import skeleton
from llmtrain_trainer.model.stage import PassThrough, Stage, ZeroEmbedding, cut, tied_names
from llmtrain_trainer.objectives import OBJECTIVES

Partition = Callable[[nn.Module], None]
"""A function that shards the weights of a module over the replicas, in place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltStage:
    """A stage, and how its weights are split."""

    stage: Stage
    cut: dict[str, int]
    """Dimension along which tp splits a weight, by name; weights that are not split are missing."""


def make(
    config: TrainerConfig, model_dir: Path, place: DeepSpeedRank, index: int, *, partition: Partition, table_outside: bool = False
) -> BuiltStage:
    """Stage `index`, in the precision of computation. `table_outside`: other modules hold the embedding and the head tied to it.

    Raises ValueError if the mesh does not suit the model.
    """
    network = skeleton(config, model_dir)
    tied = tied_names(network)
    router_balance.attach(config, network, replicas=place.dp)
    stage = cut(network, index, config.mesh.stages, OBJECTIVES[config.task])
    if table_outside:
        _take_out(network, _tied_modules(tied))
    plan = _plan(network, place, _tied_modules(tied))
    weights, adapter = pretrained(config, model_dir, network), read_adapter(model_dir)
    if config.training.activation_checkpointing == "full":
        network.activation_checkpointing_enable({"use_reentrant": False})
    shards: dict[str, int] = {}
    layers = [name for name, _ in stage.layers]
    for name in (*layers, ""):
        materialize(network, name, weights, config.training.seed, place.device, skip=() if name else layers, adapter=adapter)
        if place.tensor is not None:
            shards |= tensor.split(network, {key: style for key, style in plan.items() if _layer_of(key, layers) == name}, place.tensor)
        if not name and stage.first and stage.last:
            _tie(network, tied)
        partition(as_computed(config, network.get_submodule(name)))
    return BuiltStage(stage=stage, cut=shards)


def _plan(network: PreTrainedModel, place: DeepSpeedRank, whole: frozenset[str]) -> dict[str, str]:
    """Style of tensor parallelism by module, without the modules in `whole`."""
    if place.tp == 1:
        return {}
    check(network.config, place.tp)
    tensor.begin()
    return {name: style for name, style in styles(network, place.tp).items() if name not in whole}


def _layer_of(module: str, layers: Iterable[str]) -> str:
    """The layer that contains a module, or ""."""
    return next((layer for layer in layers if module.startswith(f"{layer}.")), "")


def pretrained(config: TrainerConfig, model_dir: Path, network: PreTrainedModel) -> Pretrained | None:
    """The weights to read; None if they are drawn at random."""
    if config.model.config is not None or config.model.init == "random":
        return None
    return Pretrained(model_dir, network.base_model_prefix, tied_names(network))


def as_computed(config: TrainerConfig, module: nn.Module) -> nn.Module:
    """Cast the weights to the precision of computation; DeepSpeed's optimizer keeps fp32 copies."""
    if config.training.precision == "bf16":
        for weight in module.parameters():
            if not hasattr(weight, "ds_id"):
                weight.data = weight.data.to(torch.bfloat16)
    return module


def _tied_modules(tied: dict[str, str]) -> frozenset[str]:
    """Output head and embedding, where they share a weight: both stay whole on every tensor-parallel rank."""
    return frozenset(name.rpartition(".")[0] for pair in tied.items() for name in pair)


def _take_out(network: PreTrainedModel, names: frozenset[str]) -> None:
    for name in names:
        module = network.get_submodule(name)
        if isinstance(module, nn.Embedding):
            network.set_submodule(name, ZeroEmbedding())
        elif isinstance(module, nn.Linear):
            network.set_submodule(name, PassThrough())


def _tie(network: PreTrainedModel, tied: dict[str, str]) -> None:
    for head, embedding in tied.items():
        network.get_submodule(head.rpartition(".")[0]).weight = network.get_parameter(embedding)


def keep_whole(_module: nn.Module) -> None:
    """A Partition that shards nothing: every replica keeps full weights."""


def optimizer_of(weights: Mapping[str, nn.Parameter], config: TrainerConfig) -> torch.optim.AdamW:
    """AdamW over the trained weights, with decay on matrices alone."""
    chosen, trained = config.training.optimizer, [(name, weight) for name, weight in weights.items() if weight.requires_grad]
    groups = decay_groups((((name, weight), _dimensions(weight)) for name, weight in trained), chosen.weight_decay)
    return torch.optim.AdamW(groups, lr=chosen.learning_rate, betas=chosen.betas, eps=chosen.epsilon, fused=True)


def _dimensions(weight: nn.Parameter) -> int:
    """Number of dimensions of the full weight; ZeRO-3 leaves a flat shard in its place."""
    return len(getattr(weight, "ds_shape", weight.shape))
