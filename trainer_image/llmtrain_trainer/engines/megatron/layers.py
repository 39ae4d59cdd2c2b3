"""What a Megatron layer is made of here: transformer-engine's modules where it is installed, Megatron's own otherwise.

Megatron's own norm refuses sequence parallelism and its own attention keeps every score: the two classes here take their places.
"""

from __future__ import annotations

import importlib.util
from contextlib import nullcontext
from typing import Any

import torch
from megatron.core.extensions import transformer_engine
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec, get_gpt_layer_with_transformer_engine_spec
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.tensor_parallel import all_to_all, get_cuda_rng_tracker
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.moe import moe_utils
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules
from megatron.core.transformer.transformer_config import TransformerConfig
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

TRANSFORMER_ENGINE = importlib.util.find_spec("transformer_engine") is not None

if not hasattr(moe_utils, "te_general_gemm"):
    moe_utils.te_general_gemm = None  # 0.16.1 asks whether it is None, but defines it only beside transformer-engine


def block_spec(config: TransformerConfig, layers: int, *, packed: bool) -> TransformerBlockSubmodules:
    """A stage of `layers` layers. `packed`: rows hold several samples, which attention must keep apart by a mask."""
    experts, heads = config.num_moe_experts, config.qk_layernorm
    if TRANSFORMER_ENGINE:
        layer = get_gpt_layer_with_transformer_engine_spec(experts, config.moe_grouped_gemm, heads)
        if packed:
            layer.submodules.self_attention.submodules.core_attention = CoreAttention
        return TransformerBlockSubmodules(layer_specs=[layer] * layers, layer_norm=transformer_engine.TENorm)
    layer = get_gpt_layer_local_spec(experts, config.moe_grouped_gemm, heads, normalization="RMSNorm")
    _use_ours(layer, heads)
    return TransformerBlockSubmodules(layer_specs=[layer] * layers, layer_norm=Norm)


def _use_ours(layer: ModuleSpec, heads: bool) -> None:
    attention = layer.submodules.self_attention.submodules
    layer.submodules.input_layernorm = layer.submodules.pre_mlp_layernorm = Norm
    attention.core_attention = CoreAttention
    if heads:
        attention.q_layernorm = attention.k_layernorm = Norm


class Norm(nn.RMSNorm):
    """RMS norm whose gradient Megatron sums over the tensor-parallel ranks, each of which sees a part of the sequence."""

    def __init__(self, config: TransformerConfig, hidden_size: int, eps: float = 1e-5, **_: Any) -> None:
        super().__init__(hidden_size, eps=eps)
        setattr(self.weight, "sequence_parallel", config.sequence_parallel)  # noqa: B010  a mark of Megatron's on its weights


class CoreAttention(MegatronModule):  # type: ignore[misc]
    """torch's scaled dot product attention: memory linear in the length, and context parallelism by all-to-all over the heads."""

    def __init__(self, config: TransformerConfig, *_: Any, pg_collection: ProcessGroupCollection, **__: Any) -> None:
        super().__init__(config=config)
        self._context = pg_collection.cp

    def forward(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: torch.Tensor | None, *_: Any, **__: Any
    ) -> torch.Tensor:
        """query, key, value: [length, batch, heads, head size] of this rank's part of the sequence and its heads.

        attention_mask: True where a position (row) sees another (column), [batch, 1, whole length, whole length]; None is causal.
        Returns [length, batch, heads x head size].
        """
        several = self._context.size() > 1
        if several:
            query, key, value = (whole_sequence(part, self._context) for part in (query, key, value))
        query, key, value = (part.permute(1, 2, 0, 3) for part in (query, key, value))
        dropout = self.config.attention_dropout if self.training else 0.0
        with get_cuda_rng_tracker().fork() if dropout else nullcontext():  # the heads of each rank draw their own
            mixed = scaled_dot_product_attention(
                query,
                key,
                value,
                attn_mask=attention_mask,
                is_causal=attention_mask is None,
                dropout_p=dropout,
                enable_gqa=query.shape[1] != key.shape[1],
            )
        mixed = mixed.permute(2, 0, 1, 3)
        return (own_sequence(mixed, self._context) if several else mixed).flatten(2)


def whole_sequence(part: torch.Tensor, group: Any) -> torch.Tensor:
    """[own length, batch, heads, size] -> [whole length, batch, own heads, size], positions in order.

    Rank r of n holds chunks r and 2n - 1 - r of 2n, as Megatron cuts sequences so that a causal mask costs every rank the same.
    """
    count = group.size()
    length, batch, heads, size = part.shape
    sent = part.view(length, batch, count, heads // count, size).permute(2, 0, 1, 3, 4)
    received = all_to_all(group, sent.reshape(count * length, batch, heads // count, size).contiguous())
    chunks = received.view(2 * count, length // 2, batch, heads // count, size)
    whole: torch.Tensor = chunks[_order(count)].flatten(0, 1)
    return whole


def own_sequence(whole: torch.Tensor, group: Any) -> torch.Tensor:
    """The inverse of `whole_sequence`: [length, batch, heads / cp, size] -> [length / cp, batch, heads, size]."""
    count = group.size()
    length, batch, heads, size = whole.shape
    chunks = whole.reshape(2 * count, length // (2 * count), batch, heads, size)[torch.argsort(torch.tensor(_order(count)))]
    received = all_to_all(group, chunks.flatten(0, 1).contiguous())
    parts = received.view(count, length // count, batch, heads, size).permute(1, 2, 0, 3, 4)
    own: torch.Tensor = parts.reshape(length // count, batch, count * heads, size)
    return own


def _order(count: int) -> list[int]:
    """Where each chunk of the sequence stands in what the ranks hold one after another: 0, 2, .. ascending, then back: .. 3, 1."""
    return [2 * chunk if chunk < count else 2 * (2 * count - 1 - chunk) + 1 for chunk in range(2 * count)]
