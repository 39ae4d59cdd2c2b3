"""The mesh: every rank has its own place, groups partition the ranks, stages partition the layers."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtrain_operator.manifest.divisors import divisors
from llmtrain_operator.manifest.problem import Problem
from llmtrain_operator.plan.layout.batch import batch_of
from llmtrain_operator.plan.layout.layout import AXES, Axis, coordinates, crossing, groups, rank_grid, rank_of, split_layers
from llmtrain_operator.plan.model.families import shape_of
from llmtrain_trainer.config import Mesh, Training

SMALL = st.integers(1, 4)


@st.composite
def meshes(draw: st.DrawFn) -> Mesh:
    pp, dp, cp, tp = (draw(SMALL) for _ in range(4))
    world = pp * dp * cp * tp
    nodes = draw(st.sampled_from(divisors(world)))
    ep = draw(st.sampled_from(divisors(dp * cp)))
    return Mesh(nodes=nodes, procs_per_node=world // nodes, pp=pp, dp=dp, cp=cp, tp=tp, ep=ep, stages=((0, 1),) * pp)


def mesh(*, nodes: int, pp: int, dp: int, tp: int, cp: int = 1, ep: int = 1) -> Mesh:
    return Mesh(nodes=nodes, procs_per_node=pp * dp * cp * tp // nodes, pp=pp, dp=dp, cp=cp, tp=tp, ep=ep, stages=((0, 1),) * pp)


@given(meshes())
def test_every_rank_has_coordinates_of_its_own(mesh: Mesh) -> None:
    places = [coordinates(mesh, rank) for rank in range(mesh.world_size)]
    assert len(set(places)) == mesh.world_size
    assert [rank_of(mesh, place) for place in places] == list(range(mesh.world_size))


@given(meshes(), st.sampled_from(AXES))
def test_the_groups_of_an_axis_partition_the_ranks(mesh: Mesh, axis: Axis) -> None:
    found = groups(mesh, axis)
    assert sorted(rank for group in found for rank in group) == list(range(mesh.world_size))
    assert {len(group) for group in found} == {getattr(mesh, axis)}


@given(meshes(), st.sampled_from(("pp", "dp", "cp", "tp")))
def test_neighbours_in_a_group_differ_in_its_coordinate_alone(mesh: Mesh, axis: Axis) -> None:
    for group in groups(mesh, axis):
        for index, rank in enumerate(group):
            at = coordinates(mesh, rank)
            assert getattr(at, axis) == index
            first = coordinates(mesh, group[0])
            assert all(getattr(at, other) == getattr(first, other) for other in ("pp", "dp", "cp", "tp") if other != axis)


@given(meshes())
def test_an_expert_group_stays_within_one_stage_and_one_tensor_shard(mesh: Mesh) -> None:
    for group in groups(mesh, "ep"):
        assert len({(coordinates(mesh, rank).pp, coordinates(mesh, rank).tp) for rank in group}) == 1


@given(meshes())
def test_the_grid_holds_every_rank_in_order(mesh: Mesh) -> None:
    assert [place for node in rank_grid(mesh) for place in node] == [coordinates(mesh, rank) for rank in range(mesh.world_size)]


def test_tensor_neighbours_stand_together_and_pipeline_neighbours_far_apart() -> None:
    layout = mesh(nodes=4, pp=4, dp=2, tp=4)
    assert groups(layout, "tp")[0] == (0, 1, 2, 3)
    assert groups(layout, "dp")[0] == (0, 4)
    assert groups(layout, "pp")[0] == (0, 8, 16, 24)
    assert crossing(layout) == {"pp": (8, 8), "dp": (0, 16), "tp": (0, 8)}


def test_a_tensor_group_larger_than_a_node_crosses_it() -> None:
    assert crossing(mesh(nodes=4, pp=1, dp=2, tp=4))["tp"] == (2, 2)


@given(st.integers(1, 130), st.integers(1, 64))
def test_stages_partition_the_layers_evenly(layers: int, stages: int) -> None:
    if stages > layers:
        return
    ranges = split_layers(layers, stages)
    assert ranges[0][0] == 0 and ranges[-1][1] == layers
    assert all(before[1] == after[0] for before, after in pairwise(ranges))
    sizes = [last - first for first, last in ranges]
    assert max(sizes) - min(sizes) <= 1
    assert sizes[-1] == min(sizes)


@pytest.mark.parametrize(
    ("layers", "stages", "sizes"),
    [(8, 4, [2, 2, 2, 2]), (3, 2, [2, 1]), (5, 2, [3, 2]), (10, 4, [2, 3, 3, 2]), (11, 4, [3, 3, 3, 2]), (7, 1, [7])],
)
def test_the_last_stage_is_the_lightest_and_the_first_the_next(layers: int, stages: int, sizes: list[int]) -> None:
    assert [last - first for first, last in split_layers(layers, stages)] == sizes


@given(st.integers(1, 512), st.integers(1, 16), st.integers(1, 16))
def test_the_batch_multiplies_out_or_is_refused(total: int, micro: int, dp: int) -> None:
    training = Training(global_batch_size=total, micro_batch_size=micro, sequence_length=8, max_steps=1)
    batch = batch_of(training, dp)
    if isinstance(batch, Problem):
        assert total % (micro * dp)
    else:
        assert batch.micro_size * dp * batch.accumulation == batch.global_size == total


@given(st.integers(1, 512), st.integers(1, 16), st.integers(1, 16))
def test_the_way_out_of_a_refused_batch_is_a_way_out(total: int, micro: int, dp: int) -> None:
    refused = batch_of(Training(global_batch_size=total, micro_batch_size=micro, sequence_length=8, max_steps=1), dp)
    if not isinstance(refused, Problem):
        return
    first = int(refused.way_out.removeprefix("Use ").split()[0].rstrip(","))
    assert not isinstance(batch_of(Training(global_batch_size=first, micro_batch_size=micro, sequence_length=8, max_steps=1), dp), Problem)
    if "microBatchSize of" in refused.way_out:
        smaller = int(refused.way_out.rsplit(" ", 1)[1])
        again = Training(global_batch_size=total, micro_batch_size=smaller, sequence_length=8, max_steps=1)
        assert not isinstance(batch_of(again, dp), Problem)


@given(st.integers(1, 10_000))
def test_divisors_are_those_that_divide(number: int) -> None:
    assert list(divisors(number)) == [n for n in range(1, number + 1) if number % n == 0]


@given(meshes())
def test_the_groups_that_cross_nodes_are_counted_as_if_one_by_one(mesh: Mesh) -> None:
    for axis, (across, count) in crossing(mesh).items():
        found = groups(mesh, axis)
        last = mesh.procs_per_node
        assert (across, count) == (sum(group[0] // last != group[-1] // last for group in found), len(found))


@given(st.integers(1, 40), st.frozensets(st.integers(0, 39)), st.integers(0, 40), st.integers(0, 40))
def test_layers_are_counted_by_kind(layers: int, dense: frozenset[int], first: int, last: int) -> None:
    config = {"model_type": "qwen3_moe", "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 96, "vocab_size": 100}
    mixture = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "num_hidden_layers": layers}
    shape = shape_of(config | mixture | {"mlp_only_layers": sorted(dense)})
    first, last = sorted((min(first, layers), min(last, layers)))
    counted = {shape.is_mixture(layer): count for layer, count in shape.kinds(first, last)}
    assert counted == dict(Counter(map(shape.is_mixture, range(first, last))))
