"""Bytes that the forward pass keeps for the backward pass, and the number of micro-batches in flight.

The per-layer terms follow Korthikanti et al. 2022 (Reducing Activation Recomputation in Large Transformer Models), section 4.1, plus the
copies of modelling code without fused kernels, minus the score matrix, which flash kernels do not keep.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import lcm

from llmtrain_operator.plan.model.shape import Matrix, ModelShape
from llmtrain_trainer.config.tables.families import family_named


def layer_bytes(shape: ModelShape, layer: int, *, sequence: int, element: int, tp: int, eager: bool) -> float:
    """Bytes per token that one layer keeps. `element`: 2 for bf16, 4 for fp32. Only tensors that are split are divided by tp."""
    gathered = family_named(shape.model_type).gathered
    of_heads, of_network = (1 if part in gathered else tp for part in ("attention", "network"))
    whole = shape.hidden * _norm_bytes(shape, element) * 2
    heads = element * (2 * shape.attention_width + 2 * shape.kv_width) + 4 * shape.heads
    scores = shape.heads * sequence * (2 * element + 4) if eager else 0
    return whole + (heads + scores) / of_heads + element * feed_forward_values(shape, layer) / of_network


def fused_layer_bytes(shape: ModelShape, layer: int, *, element: int, tp: int) -> float:
    """Bytes per token that a Megatron layer keeps. With sequence parallelism norms are split too; norm and gated activation are one kernel
    each, which keeps its input. RoPE copies queries and keys, while the values, a view, keep the whole fused QKV output alive."""
    values = (feed_forward_values(shape, layer) - _gated_values(shape, layer) / 4) * element
    heads = 3 * element * (shape.attention_width + shape.kv_width) + 4 * shape.heads
    return (2 * shape.hidden * 2 * element + heads + values) / tp


def _norm_bytes(shape: ModelShape, element: int) -> int:
    """Bytes per hidden value that a norm and the linear layer after it keep: its input, the normalized value, the layer's input; RMS norms
    also an fp32 copy in bf16. A fused layer norm keeps its input and its output."""
    if shape.norm_bias:
        return 2 * element
    return 3 * element + (4 if element == 2 else 0)


def feed_forward_values(shape: ModelShape, layer: int) -> float:
    """Values kept per token inside the feed-forward network: gate, up, activation, product; without a gate five of the tanh form. In an MoE
    layer also input and output of each expert of a token."""
    if shape.is_mixture(layer):
        experts = shape.experts_per_token * (4.0 * shape.expert_ffn + 2.0 * shape.hidden)
        return experts + 4.0 * shape.shared_ffn + 2 * shape.experts
    return (4.0 if shape.gated else 5.0) * shape.ffn


def _gated_values(shape: ModelShape, layer: int) -> float:
    """Values kept per token for gate, up, activation and product; 0 without a gate."""
    if shape.is_mixture(layer):
        return 4.0 * (shape.experts_per_token * shape.expert_ffn + shape.shared_ffn)
    return 4.0 * shape.ffn if shape.gated else 0.0


def context_values(shape: ModelShape, *, tp: int, cp: int) -> float:
    """Additional values kept per token when sequences are split over cp ranks: the attention output before and after the all-to-all, and
    copies of keys and values for each rank beyond the key-value heads."""
    if cp == 1:
        return 0.0
    own = max(1, shape.kv_heads // tp)
    copies = lcm(own, cp) // own
    return (shape.attention_width + 2 * (copies - 1) * shape.kv_width) / tp


def expert_values(shape: ModelShape, layer: int, *, tp: int, ep: int) -> float:
    """Additional values kept per token when experts are distributed over ranks: the outputs of its experts after the all-to-all."""
    cut = shape.is_mixture(layer) and tp * ep > 1
    return shape.experts_per_token * shape.hidden / tp if cut else 0.0


def magnitude_values(matrices: Iterable[Matrix], tp: int) -> float:
    """Additional values kept per token beside layers with a trained magnitude: outputs of the base layer and of the adapter."""
    return sum(2.0 * matrix.outputs / tp for matrix in matrices)


def magnitude_scratch(matrices: Iterable[Matrix]) -> int:
    """Most values live while the lengths of one matrix's rows are computed: an identity matrix as input of the adapter, the adapter's
    product, the same scaled, and the sum with the weight."""
    return max((matrix.inputs * (matrix.inputs + 3 * matrix.outputs) for matrix in matrices), default=0)


def recomputed_bytes(shape: ModelShape, element: int) -> float:
    """Bytes per token that one layer keeps with recomputation: its input."""
    return float(element * shape.hidden)


def chunks_in_flight(schedule: str, *, pp: int, rank: int, virtual: int, accumulation: int) -> int:
    """Most forward passes of one stage whose activations pipeline rank `rank` holds at once.

    gpipe: all micro-batches. 1f1b: the ranks behind it and itself. interleaved: the warm-up of Narayanan et al. 2021, section 2.2,
    2 (pp - rank - 1) + (virtual - 1) pp, and one.
    """
    if pp == 1:
        return 1
    if schedule == "gpipe":
        return accumulation * virtual
    if schedule == "1f1b":
        return min(accumulation, pp - rank)
    return min(accumulation * virtual, 2 * (pp - rank - 1) + (virtual - 1) * pp + 1)
