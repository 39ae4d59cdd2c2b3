"""Bytes that the forward pass keeps for the backward pass, and how many micro-batches are under way at once.

The per-layer terms follow Korthikanti et al. 2022 (Reducing Activation Recomputation in Large Transformer Models), section 4.1, with
what modelling code without fused kernels keeps, and without the score matrix, which flash kernels do not keep.
"""

from __future__ import annotations

from math import lcm

from llmtrain_operator.plan.model.shape import ModelShape


def layer_bytes(shape: ModelShape, layer: int, *, sequence: int, element: int, tp: int, eager: bool) -> float:
    """Bytes a token that one layer keeps. `element`: 2 for bf16, 4 for fp32. Only what tensor parallelism splits is divided by tp."""
    whole = shape.hidden * _norm_bytes(shape, element) * 2
    heads = element * (2 * shape.attention_width + 2 * shape.kv_width) + 4 * shape.heads
    scores = shape.heads * sequence * (2 * element + 4) if eager else 0
    return whole + (heads + scores + element * feed_forward_values(shape, layer)) / tp


def fused_layer_bytes(shape: ModelShape, layer: int, *, element: int, tp: int) -> float:
    """The same of Megatron's layers: norms see a part of the sequence too, and norm and gated activation are one kernel each, which keep
    what goes in. Queries and keys are copied as they are turned by their positions, while the values, a view, keep all of what one matrix
    gave for the three."""
    values = (feed_forward_values(shape, layer) - _gated_values(shape, layer) / 4) * element
    heads = 3 * element * (shape.attention_width + shape.kv_width) + 4 * shape.heads
    return (2 * shape.hidden * 2 * element + heads + values) / tp


def _norm_bytes(shape: ModelShape, element: int) -> int:
    """A norm and the linear layer after it keep, a hidden value: its input, the normalised value, the layer's input; RMS norms also
    an fp32 copy in bf16. A fused layer norm keeps its input and its output."""
    if shape.norm_bias:
        return 2 * element
    return 3 * element + (4 if element == 2 else 0)


def feed_forward_values(shape: ModelShape, layer: int) -> float:
    """Values a token keeps inside the feed-forward network: gate, up, activation, product; without a gate five of the tanh form. In a
    mixture also what goes into each expert of a token, and what comes out."""
    if shape.is_mixture(layer):
        experts = shape.experts_per_token * (4.0 * shape.expert_ffn + 2.0 * shape.hidden)
        return experts + 4.0 * shape.shared_ffn + 2 * shape.experts
    return (4.0 if shape.gated else 5.0) * shape.ffn


def _gated_values(shape: ModelShape, layer: int) -> float:
    """Of those, gate, up, activation and product."""
    if shape.is_mixture(layer):
        return 4.0 * (shape.experts_per_token * shape.expert_ffn + shape.shared_ffn)
    return 4.0 * shape.ffn if shape.gated else 0.0


def context_values(shape: ModelShape, *, tp: int, cp: int) -> float:
    """Values a token keeps more where sequences are cut over cp ranks: attention's result before and after it travels, and keys and
    values once more for each rank beyond the key-value heads."""
    if cp == 1:
        return 0.0
    own = max(1, shape.kv_heads // tp)
    copies = lcm(own, cp) // own
    return (shape.attention_width + 2 * (copies - 1) * shape.kv_width) / tp


def expert_values(shape: ModelShape, layer: int, *, tp: int, ep: int) -> float:
    """Values a token keeps more where experts are cut over ranks: the results of its experts, back from where they were computed."""
    cut = shape.is_mixture(layer) and tp * ep > 1
    return shape.experts_per_token * shape.hidden / tp if cut else 0.0


def recomputed_bytes(shape: ModelShape, element: int) -> float:
    """Bytes a token that one layer keeps when it is computed again in the backward pass: its input."""
    return float(element * shape.hidden)


def chunks_in_flight(schedule: str, *, pp: int, rank: int, virtual: int, accumulation: int) -> int:
    """Forward passes of one stage whose activations pipeline rank `rank` holds at its fullest.

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
