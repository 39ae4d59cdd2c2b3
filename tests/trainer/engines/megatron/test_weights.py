"""Joining, cutting and taking apart weights by the tables of names: pure arithmetic on small tensors."""

from __future__ import annotations

import pytest
import torch
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec

from llmtrain_trainer.engines.megatron.names import FAMILIES, FUSED, WeightLayout
from llmtrain_trainer.engines.megatron.weights import Heads, numbered, part_of, theirs_of

HEADS = Heads(groups=4, per_group=2, size=3)
SHAPES: dict[WeightLayout, list[tuple[int, ...]]] = {
    WeightLayout.WHOLE: [(8,)],
    WeightLayout.COLUMN: [(8, 5)],
    WeightLayout.ROW: [(5, 8)],
    WeightLayout.QKV: [(24, 5), (12, 5), (12, 5)],
    WeightLayout.GATED: [(8, 5), (8, 5)],
}


@pytest.mark.parametrize("degree", [1, 2, 4])
@pytest.mark.parametrize("kind", WeightLayout)
def test_the_parts_of_all_ranks_make_the_weights_they_were_cut_from(kind: WeightLayout, degree: int) -> None:
    theirs = [torch.randn(shape) for shape in SHAPES[kind]]
    parts = [part_of(kind, theirs, HEADS, degree, rank) for rank in range(degree)]
    for back, whole in zip(theirs_of(kind, parts, HEADS), theirs, strict=True):
        assert torch.equal(back, whole)


def test_each_group_of_heads_is_its_queries_its_key_and_its_value() -> None:
    query, key, value = (torch.arange(rows).float()[:, None] + 100 * number for number, rows in enumerate((24, 12, 12)))
    second = part_of(WeightLayout.QKV, [query, key, value], HEADS, 4, 1).flatten().tolist()
    assert second == [*range(6, 12), 103, 104, 105, 203, 204, 205]


def test_biases_are_cut_like_their_weights() -> None:
    query, key, value = torch.arange(24.0), torch.arange(12.0), torch.arange(12.0)
    parts = [part_of(WeightLayout.QKV, [query, key, value], HEADS, 2, rank) for rank in range(2)]
    assert torch.equal(theirs_of(WeightLayout.QKV, parts, HEADS)[0], query)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_weight_of_either_side_is_in_a_table_twice(family: str) -> None:
    rows = FAMILIES[family]
    theirs = [name for row in rows for name in row.theirs]
    assert len({row.ours for row in rows}) == len(rows)
    assert len(set(theirs)) == len(theirs)


def test_folded_norms_go_by_the_names_that_megatron_itself_saves_them_under() -> None:
    folded = get_gpt_layer_local_spec(normalization="RMSNorm").submodules.sharded_state_dict_keys_map
    for plain, fused in folded.items():
        assert FUSED[f"decoder.layers.{{layer}}.{fused}weight"] == f"decoder.layers.{{layer}}.{plain}weight"


@pytest.mark.parametrize(
    ("local", "pattern", "numbers"),
    [
        (
            "decoder.layers.1.self_attention.linear_qkv.layer_norm_weight",
            "{layer}.self_attention.linear_qkv.layer_norm_weight",
            {"layer": 7},
        ),
        ("decoder.layers.0.mlp.experts.linear_fc1.weight3", "{layer}.mlp.experts.linear_fc1.weight{expert}", {"layer": 6, "expert": 11}),
        (
            "decoder.layers.0.mlp.experts.local_experts.2.linear_fc2.weight",
            "{layer}.mlp.experts.local_experts.{expert}.linear_fc2.weight",
            {"layer": 6, "expert": 10},
        ),
    ],
)
def test_a_rank_counts_layers_and_experts_in_the_whole_model(local: str, pattern: str, numbers: dict[str, int]) -> None:
    found = numbered(local, layers=[6, 7], first_expert=8)
    rows = {row.ours for row in FAMILIES["mixtral"]}
    assert found == (f"decoder.layers.{pattern}", numbers)
    assert FUSED.get(found[0], found[0]) in rows
