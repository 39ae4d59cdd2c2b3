"""Which Hugging Face weights make up which Megatron weight, as data: a table for each family. Read by weights.py, both ways.

Names are those of the published files. {layer} and {expert} stand for numbers in the whole model, whatever rank holds them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from llmtrain_trainer.config.tables.families import family_named, trained_by
from llmtrain_trainer.config.tables.family import ExpertNames


class WeightLayout(Enum):
    """How the Hugging Face weights of a row become one Megatron weight, and how tensor parallelism cuts it."""

    WHOLE = "one weight, the same on every rank"
    COLUMN = "one weight, cut by rows of the matrix: its outputs"
    ROW = "one weight, cut by columns of the matrix: its inputs"
    QKV = "queries, keys and values of each group of heads one after another; cut between groups"
    GATED = "gate above up, each cut by its outputs"


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightMapping:
    """One weight of Megatron's."""

    ours: str
    theirs: tuple[str, ...]
    kind: WeightLayout


def _row(ours: str, kind: WeightLayout, *theirs: str) -> WeightMapping:
    return WeightMapping(ours=ours, theirs=theirs, kind=kind)


_L = "decoder.layers.{layer}."
_H = "model.layers.{layer}."
_QKV = tuple(f"{_H}self_attn.{part}_proj" for part in "qkv")

ENDS = (
    _row("embedding.word_embeddings.weight", WeightLayout.COLUMN, "model.embed_tokens.weight"),
    _row("decoder.final_layernorm.weight", WeightLayout.WHOLE, "model.norm.weight"),
    _row("output_layer.weight", WeightLayout.COLUMN, "lm_head.weight"),
)
ATTENTION = (
    _row(f"{_L}input_layernorm.weight", WeightLayout.WHOLE, f"{_H}input_layernorm.weight"),
    _row(f"{_L}self_attention.linear_qkv.weight", WeightLayout.QKV, *(f"{name}.weight" for name in _QKV)),
    _row(f"{_L}self_attention.linear_qkv.bias", WeightLayout.QKV, *(f"{name}.bias" for name in _QKV)),
    _row(f"{_L}self_attention.linear_proj.weight", WeightLayout.ROW, f"{_H}self_attn.o_proj.weight"),
    _row(f"{_L}self_attention.linear_proj.bias", WeightLayout.WHOLE, f"{_H}self_attn.o_proj.bias"),
    _row(f"{_L}self_attention.q_layernorm.weight", WeightLayout.WHOLE, f"{_H}self_attn.q_norm.weight"),
    _row(f"{_L}self_attention.k_layernorm.weight", WeightLayout.WHOLE, f"{_H}self_attn.k_norm.weight"),
    _row(f"{_L}pre_mlp_layernorm.weight", WeightLayout.WHOLE, f"{_H}post_attention_layernorm.weight"),
)
DENSE = (
    _row(f"{_L}mlp.linear_fc1.weight", WeightLayout.GATED, f"{_H}mlp.gate_proj.weight", f"{_H}mlp.up_proj.weight"),
    _row(f"{_L}mlp.linear_fc1.bias", WeightLayout.GATED, f"{_H}mlp.gate_proj.bias", f"{_H}mlp.up_proj.bias"),
    _row(f"{_L}mlp.linear_fc2.weight", WeightLayout.ROW, f"{_H}mlp.down_proj.weight"),
    _row(f"{_L}mlp.linear_fc2.bias", WeightLayout.WHOLE, f"{_H}mlp.down_proj.bias"),
)


def _mixture(names: ExpertNames) -> tuple[WeightMapping, ...]:
    block, (gate, up), down = names.block, names.into, names.out
    expert, ours = f"{_H}{block}.experts.{{expert}}.", f"{_L}mlp.experts.local_experts.{{expert}}."
    return (
        _row(f"{_L}mlp.router.weight", WeightLayout.WHOLE, f"{_H}{block}.gate.weight"),
        _row(f"{ours}linear_fc1.weight", WeightLayout.GATED, f"{expert}{gate}.weight", f"{expert}{up}.weight"),
        _row(f"{ours}linear_fc2.weight", WeightLayout.ROW, f"{expert}{down}.weight"),
    )


FAMILIES: dict[str, tuple[WeightMapping, ...]] = {
    name: ENDS + ATTENTION + (_mixture(experts) if (experts := family_named(name).published) else DENSE) for name in trained_by("megatron")
}
"""A model has the rows that its config asks for: biases and norms of the heads are in every table."""

FUSED = {
    f"{_L}self_attention.linear_qkv.layer_norm_weight": f"{_L}input_layernorm.weight",
    f"{_L}mlp.linear_fc1.layer_norm_weight": f"{_L}pre_mlp_layernorm.weight",
    f"{_L}mlp.experts.linear_fc1.weight{{expert}}": f"{_L}mlp.experts.local_experts.{{expert}}.linear_fc1.weight",
    f"{_L}mlp.experts.linear_fc2.weight{{expert}}": f"{_L}mlp.experts.local_experts.{{expert}}.linear_fc2.weight",
}
"""What transformer-engine's layers call these weights, where it folds a norm or all experts into one module."""
