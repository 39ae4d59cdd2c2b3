"""Tensor parallelism with AutoTP's layers, placed by the plan that Hugging Face ships with a model.

AutoTP's own search for layers loses adapters, and does not work inside a pipeline. Its layers support both.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.distributed as dist
from deepspeed.module_inject.layers import LinearAllreduce, LinearLayer, VocabParallelEmbedding, set_autotp_mode
from torch import nn
from transformers import PreTrainedModel

from llmtrain_trainer.engines.native.tensor import COLUMN, EMBEDDING, HEAD, ROW, SUMMED


def begin() -> None:
    """Set the global by which AutoTP's layers know that they train."""
    set_autotp_mode(training=True)


def split(network: PreTrainedModel, plan: dict[str, str], group: dist.ProcessGroup) -> dict[str, int]:
    """Replace the modules that the plan names by this rank's shards of them.

    Returns the dimension that each weight is cut on, by its name; weights that stay whole are not in it.
    """
    cut: dict[str, int] = {}
    for name, style in plan.items():
        if style == SUMMED:
            _sum_gradients(network.get_submodule(name), group)
        for part, kind in _parts(name, network.get_submodule(name), style):
            layer = _layer(network.get_submodule(part), kind, group)
            network.set_submodule(part, layer)
            cut |= dict.fromkeys(_cut_weights(part, layer, kind), 1 if kind == ROW else 0)
    return cut


def _parts(name: str, module: nn.Module, style: str) -> Iterator[tuple[str, str]]:
    """A layer with an adapter splits its factor next to the split side: a column layer lora_B, a row layer lora_A."""
    if style in (COLUMN, ROW) and hasattr(module, "base_layer"):
        yield f"{name}.base_layer", style
        yield f"{name}.lora_{'B' if style == COLUMN else 'A'}.default", style
    elif style in (COLUMN, ROW, HEAD, EMBEDDING) and isinstance(module, nn.Linear | nn.Embedding):
        yield name, style


def _layer(module: nn.Module, style: str, group: dist.ProcessGroup) -> nn.Module:
    if style == ROW:
        layer: nn.Module = LinearAllreduce(module, group)
    elif style == EMBEDDING:
        layer = VocabParallelEmbedding(module, group)
    else:
        layer = LinearLayer(module, group, gather_output=style == HEAD)
    return layer


def _cut_weights(name: str, layer: nn.Module, style: str) -> Iterator[str]:
    """The bias of a row layer is not split: it is added once, to the sum."""
    yield f"{name}.weight"
    if style != ROW and getattr(layer, "bias", None) is not None:
        yield f"{name}.bias"


def _sum_gradients(module: nn.Module, group: dist.ProcessGroup) -> None:
    """Every rank holds these weights whole but sees them with its own heads only."""

    def add_up(gradient: torch.Tensor) -> torch.Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient, group=group)
        return gradient

    for weight in module.parameters():
        if weight.requires_grad:
            weight.register_hook(add_up)  # type: ignore[no-untyped-call]
