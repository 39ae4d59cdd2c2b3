"""The whole model of a rank: transformers' own network with its weights, and a forward that gives the sums of the loss."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.engines.native import router_balance
from llmtrain_trainer.engines.native.assemble import as_computed
from llmtrain_trainer.model.heads import outputs_of
from llmtrain_trainer.model.materialize import materialize, read_adapter
from llmtrain_trainer.model.pretrained import Pretrained
from llmtrain_trainer.model.skeleton import skeleton
from llmtrain_trainer.model.stage import saved_buffers, tied_names
from llmtrain_trainer.objectives import OBJECTIVES
from llmtrain_trainer.objectives.objective import Objective
from llmtrain_trainer.objectives.sums import vector


def whole_model(config: TrainerConfig, model_dir: Path, device: torch.device) -> PreTrainedModel:
    """Ready to be wrapped: in fp32, frozen weights in the type that layers compute in, the same on every rank.

    Raises ValueError where a weight is in no file.
    """
    network = skeleton(config, model_dir)
    tied = tied_names(network)
    router_balance.attach(config, network, replicas=config.mesh.dp)
    drawn = config.model.config is not None or config.model.init == "random"
    weights = None if drawn else Pretrained(model_dir, network.base_model_prefix, tied)
    if config.training.activation_checkpointing == "full":
        network.activation_checkpointing_enable({"use_reentrant": False})
    materialize(network, "", weights, config.training.seed, device, adapter=read_adapter(model_dir))
    as_computed(config, network)
    for head, embedding in tied.items():
        network.get_submodule(head.rpartition(".")[0]).weight = network.get_parameter(embedding)
    network.config.use_cache = False  # a cache of keys is of no use, and hides from transformers that rows are packed
    _give_forward(network, OBJECTIVES[config.task])
    return network


def layer_classes(network: PreTrainedModel) -> list[str]:
    """Names of the classes of its layers: what stands in the lists of the base model."""
    lists = [module for module in network.base_model.modules() if isinstance(module, nn.ModuleList)]
    inner = {id(module) for layers in lists for layer in layers for module in layer.modules()}
    return sorted({type(layer).__name__ for layers in lists if id(layers) not in inner for layer in layers})


def stored(network: PreTrainedModel) -> Iterator[tuple[str, torch.Tensor]]:
    """Weights, and the buffers that files hold beside them; a tied weight once, by the name of the embedding."""
    yield from network.named_parameters()
    for prefix, module in network.named_modules():
        yield from saved_buffers(module, prefix)


def _give_forward(network: PreTrainedModel, objective: Objective) -> None:
    """Set on the instance: a wrapping module would put its name in front of every parameter's."""
    whole = network.forward
    takes = inspect.signature(whole).parameters

    def forward(ids: torch.Tensor, position_ids: torch.Tensor | None = None, **columns: torch.Tensor) -> torch.Tensor:
        inputs: dict[str, Any] = {"input_ids": ids}
        if position_ids is not None:
            inputs["position_ids"] = position_ids
        if "use_cache" in takes:
            inputs["use_cache"] = False
        outputs = outputs_of(network, objective.head, whole, inputs)
        return vector(objective, objective.loss(outputs, columns))

    object.__setattr__(network, "forward", forward)
