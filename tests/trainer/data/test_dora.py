"""DoRA starts as the base model, and folds into the weights that peft merges."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig
from peft.tuners.lora.layer import Linear
from torch import nn

from llmtrain_trainer.model.adapters import dora
from llmtrain_trainer.model.export import _in_files
from llmtrain_trainer.model.materialize import _in_model


def layer(**options: bool) -> Any:
    torch.manual_seed(0)
    config = LoraConfig(r=2, lora_alpha=6, **options)
    return Linear(nn.Linear(6, 5), "default", config=config, r=2, lora_alpha=6, **options)


def test_a_layer_starts_as_its_base() -> None:
    made, rows = layer(use_dora=True), torch.randn(3, 6)
    made.lora_magnitude_vector["default"].weight.data.zero_()
    dora.begin(made, "model.layers.0.mlp.up_proj")
    assert torch.allclose(made(rows), made.base_layer(rows), atol=1e-6)


@pytest.mark.parametrize("transposed", [False, True])
def test_rows_of_zeros_are_refused_with_the_module_and_two_ways_out(transposed: bool) -> None:
    made = layer(use_dora=True)
    made.lora_magnitude_vector["default"].fan_in_fan_out = transposed
    made.base_layer.weight = nn.Parameter(made.base_layer.weight.T.contiguous() if transposed else made.base_layer.weight)
    weight = made.base_layer.weight.data
    (weight.T if transposed else weight)[1:3] = 0
    rule = r"dora: 2 of 5 rows of model\.layers\.0\.mlp\.up_proj\.weight are zeros.* Use method: lora, or leave up_proj out of"
    with pytest.raises(ValueError, match=rule):
        dora.begin(made, "model.layers.0.mlp.up_proj")


def test_plain_lora_is_left_as_it_is() -> None:
    made = layer()
    before = {name: weight.clone() for name, weight in made.named_parameters()}
    dora.begin(made, "model.layers.0.mlp.up_proj")
    assert all(torch.equal(weight, before[name]) for name, weight in made.named_parameters())


def test_a_folded_weight_is_what_peft_merges() -> None:
    made = layer(use_dora=True)
    for weight in (made.lora_B["default"].weight, made.lora_magnitude_vector["default"].weight):
        nn.init.uniform_(weight, 0.5, 1.5)
    low_rank = made.lora_B["default"].weight @ made.lora_A["default"].weight
    found = dora.folded(made.base_layer.weight + made.scaling["default"] * low_rank, made.lora_magnitude_vector["default"].weight)
    made.merge()
    assert torch.allclose(found, made.base_layer.weight, atol=1e-6)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("lora_A.default.weight", "lora_A.weight"), ("lora_magnitude_vector.default.weight", "lora_magnitude_vector")],
)
def test_names_in_files_are_peft_s_and_are_read_back(ours: str, theirs: str) -> None:
    assert _in_files(f"model.q_proj.{ours}") == f"base_model.model.model.q_proj.{theirs}"
    assert _in_model(f"base_model.model.model.q_proj.{theirs}") == f"model.q_proj.{ours}"
