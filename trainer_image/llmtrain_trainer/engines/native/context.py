"""Context parallelism: each rank holds a part of every sequence, and attention sees whole sequences of some heads.

All-to-all over heads (Jacobs et al. 2023, DeepSpeed Ulysses): before attention each rank sends its positions of the other ranks' heads
and receives the other positions of its own heads; an all-to-all after attention reverses that. The code in between is Hugging Face's. It
gets positions of full sequences, for which its masks are made; rotary or learned positions are then cut to this rank's part.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import lcm
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from llmtrain_trainer.engines.native.collectives import all_to_all
from llmtrain_trainer.engines.native.mesh import ParallelDims

POSITIONS = ("rotary_emb", "wpe")
"""Modules of the base model that compute values from positions: rotary angles, or an embedding of learned positions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextAttention:
    """The process group through which an attention module exchanges heads."""

    group: dist.ProcessGroup
    size: int


def part(values: torch.Tensor, dims: ParallelDims) -> torch.Tensor:
    """This rank's positions [rows, length / cp, ...] of `values` [rows, length, ...]."""
    return values.chunk(dims.cp, dim=1)[dims.cp_rank]


def check(config: PreTrainedConfig, attention: str, dims: ParallelDims) -> None:
    """Raises ValueError if heads cannot be distributed, or for an attention kernel without context parallelism."""
    if attention != "sdpa":
        raise ValueError(f"model.attention is {attention}, but sequences are cut with sdpa only: set it to sdpa, or context to 1")
    if config.num_attention_heads % (dims.tp * dims.cp):
        raise ValueError(
            f"model.num_attention_heads is {config.num_attention_heads}, but context x tensor ({dims.cp} x {dims.tp}) must divide it: "
            "choose degrees that do"
        )


def implementation(size: int, *, masked: bool) -> str:
    """Name of the attention over `size` ranks, in Hugging Face's registries of kernels and, where rows need one, of masks."""
    name = f"context{size}" + ("" if masked else "_unmasked")
    AttentionInterface.register(name, _attend)
    if masked:
        AttentionMaskInterface.register(name, partial(_whole_mask, size))
    return name


def split(network: PreTrainedModel, dims: ParallelDims) -> None:
    """Let the attention modules of `network` exchange heads, and cut what it computes from positions. Does nothing where cp is 1."""
    if dims.context is None:
        return
    found = [name for name in POSITIONS if hasattr(network.base_model, name)]
    if not found:
        raise ValueError(f"model_type {network.config.model_type} has none of {', '.join(POSITIONS)} to cut: set context to 1")
    for module in network.modules():
        if hasattr(module, "is_causal"):
            module.context = ContextAttention(group=dims.context, size=dims.cp)
    for name in found:
        getattr(network.base_model, name).register_forward_hook(partial(_cut, dims))


def _cut(dims: ParallelDims, _: nn.Module, __: Any, output: Any) -> Any:
    """cos and sin, or learned positions, of the full sequence -> of this rank's part. A ZeroEmbedding returns a scalar, which stays."""
    if isinstance(output, tuple):
        return tuple(part(values, dims) for values in output)
    return part(output, dims) if output.ndim else output


def _whole_mask(size: int, *, q_length: int, kv_length: int, **rest: Any) -> torch.Tensor | None:
    """The mask of full sequences, from the lengths of a part."""
    mask: torch.Tensor | None = sdpa_mask(q_length=size * q_length, kv_length=size * kv_length, **rest)
    return mask


def _attend(module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, **rest: Any) -> tuple[torch.Tensor, None]:
    """query [rows, heads, part, width], key and value with fewer heads -> [rows, part, heads, width].

    With fewer key-value heads than ranks, each head is copied to all ranks that hold its queries.
    """
    context: ContextAttention = module.context
    heads, own = query.shape[1], key.shape[1]
    copies = lcm(own, context.size) // own
    if copies > 1:
        key, value = (values.repeat_interleave(copies, dim=1) for values in (key, value))
    query, key, value = (_to_heads(values, context) for values in (query, key, value))
    groups = heads // (own * copies)
    seen = SimpleNamespace(num_key_value_groups=groups, is_causal=module.is_causal, training=module.training)
    output, _ = sdpa_attention_forward(seen, query, key, value, mask, **rest)
    return _to_positions(output, context), None


def _to_heads(values: torch.Tensor, context: ContextAttention) -> torch.Tensor:
    """[rows, heads, part, width] -> [rows, heads / size, length, width]."""
    rows, heads, length, width = values.shape
    sent = values.view(rows, context.size, heads // context.size, length, width).movedim(1, 0)
    return all_to_all(sent, context.group).permute(1, 2, 0, 3, 4).reshape(rows, heads // context.size, -1, width)


def _to_positions(values: torch.Tensor, context: ContextAttention) -> torch.Tensor:
    """[rows, length, heads / size, width] -> [rows, part, heads, width]."""
    rows, length, heads, width = values.shape
    sent = values.view(rows, context.size, length // context.size, heads, width).movedim(1, 0)
    return all_to_all(sent, context.group).permute(1, 2, 0, 3, 4).reshape(rows, -1, context.size * heads, width)
