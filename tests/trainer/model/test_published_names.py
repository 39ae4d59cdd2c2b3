"""Fused weights of experts and the tensors of published files: what is split is put together again, whatever the sizes."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llmtrain_trainer.model.published_names import recipe_of, renamed, split

LAYER = "model.layers.3."
GATE_UP, DOWN, ROUTER = f"{LAYER}mlp.experts.gate_up_proj", f"{LAYER}mlp.experts.down_proj", f"{LAYER}mlp.gate.weight"
KINDS = {"mixtral": ("block_sparse_moe", ("w1", "w3"), "w2"), "qwen3_moe": ("mlp", ("gate_proj", "up_proj"), "down_proj")}


def fused(experts: int, width: int, hidden: int) -> dict[str, torch.Tensor]:
    shapes = {GATE_UP: (experts, 2 * width, hidden), DOWN: (experts, hidden, width), ROUTER: (experts, hidden)}
    return {name: torch.arange(torch.Size(shape).numel()).reshape(shape) + number for number, (name, shape) in enumerate(shapes.items())}


def published(model_type: str, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {part: weight[at] for name, weight in weights.items() for part, at in split(model_type, name, weight.shape)}


def shapes(files: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in files.items()}


@pytest.mark.parametrize(("model_type", "names"), KINDS.items(), ids=list(KINDS))
def test_published_files_have_the_names_of_the_family(model_type: str, names: tuple[str, tuple[str, str], str]) -> None:
    block, (gate, up), down = names
    weights = fused(2, 3, 5)
    files = published(model_type, weights)
    assert files.keys() == {
        f"{LAYER}{block}.gate.weight",
        *(f"{LAYER}{block}.experts.{expert}.{part}.weight" for expert in (0, 1) for part in (gate, up, down)),
    }
    one = f"{LAYER}{block}.experts.1."
    assert files[f"{one}{gate}.weight"].equal(weights[GATE_UP][1, :3]), "the gate stands above"
    assert files[f"{one}{up}.weight"].equal(weights[GATE_UP][1, 3:])
    assert files[f"{one}{down}.weight"].equal(weights[DOWN][1])


@given(st.sampled_from(sorted(KINDS)), st.integers(1, 5), st.integers(1, 4), st.integers(1, 4))
def test_what_was_split_is_put_together_as_it_was(model_type: str, experts: int, width: int, hidden: int) -> None:
    weights = fused(experts, width, hidden)
    files = published(model_type, weights)
    for name, weight in weights.items():
        recipe = recipe_of(name, shapes(files))
        assert recipe is not None
        assert recipe.made(files.__getitem__).equal(weight) and recipe.shape(shapes(files)) == weight.shape


@given(st.sampled_from(sorted(KINDS)), st.integers(1, 5), st.integers(1, 4), st.integers(1, 4))
def test_single_experts_are_found_in_fused_files(model_type: str, experts: int, width: int, hidden: int) -> None:
    weights = fused(experts, width, hidden)
    for name, tensor in published(model_type, weights).items():
        recipe = recipe_of(name, shapes(weights))
        assert recipe is not None
        assert recipe.made(weights.__getitem__).equal(tensor) and recipe.shape(shapes(weights)) == tensor.shape


def test_a_weight_that_stands_in_the_files_is_itself() -> None:
    files = {"model.norm.weight": torch.ones(3)}
    recipe = recipe_of("model.norm.weight", shapes(files))
    assert recipe is not None and recipe.names == ("model.norm.weight",) and recipe.made(files.__getitem__).equal(torch.ones(3))


@pytest.mark.parametrize("model_type", sorted(KINDS))
def test_experts_after_one_that_is_missing_do_not_move_up(model_type: str) -> None:
    files = published(model_type, fused(4, 2, 3))
    gone = next(name for name in files if ".experts.2." in name)
    block, into, _ = KINDS[model_type]
    left = {name: tensor for name, tensor in files.items() if name != gone}
    recipe = recipe_of(GATE_UP, shapes(left))
    assert recipe is not None and recipe.shape(shapes(left))[0] == 2
    assert recipe.rows[-1] == tuple(f"{LAYER}{block}.experts.1.{part}.weight" for part in into)


@pytest.mark.parametrize(
    "name", ["model.norm.bias", GATE_UP, DOWN, ROUTER, f"{LAYER}mlp.experts.9.up_proj.weight", f"{LAYER}mlp.experts.0.odd.weight"]
)
def test_what_no_file_holds_has_no_recipe(name: str) -> None:
    assert recipe_of(name, {"model.norm.weight": torch.Size([3])}) is None


def test_an_expert_beyond_those_of_the_fused_weight_is_not_made_up() -> None:
    files = shapes(fused(2, 3, 5))
    assert recipe_of(f"{LAYER}mlp.experts.1.up_proj.weight", files) is not None
    assert recipe_of(f"{LAYER}mlp.experts.2.up_proj.weight", files) is None


def test_a_dense_family_keeps_its_names() -> None:
    name = "model.layers.0.mlp.gate_proj.weight"
    assert list(split("llama", name, (4, 4))) == [(name, ())] and renamed("llama", name) == name
