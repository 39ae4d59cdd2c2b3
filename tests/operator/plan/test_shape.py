"""Parameter counts against the models themselves, built by transformers without weights (on the meta device)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmtrain_operator.manifest.divisors import listed
from llmtrain_operator.manifest.problem import PlanError
from llmtrain_operator.plan.model.families import shape_of
from llmtrain_operator.plan.model.shape import flops_per_token
from llmtrain_trainer.config.tables.families import TRAINED

SHAPES = sorted((Path(__file__).parents[1] / "shapes").glob("*.json"))
SMALL = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "vocab_size": 100,
}

PUBLISHED = {
    "llama-3-8b": 8_030_261_248,
    "llama-3-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-7b": 7_615_616_512,
    "qwen3-8b": 8_190_735_360,
    "qwen3-30b-a3b": 30_532_122_624,
    "mixtral-8x7b": 46_702_792_704,
    "gpt2": 124_439_808,
    "t5-small": 60_506_624,
}
"""What the models' own pages and weight files say."""


def config_of(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(__file__).parents[1] / "shapes" / f"{name}.json").read_text())
    return found


@pytest.mark.parametrize("path", SHAPES, ids=lambda path: path.stem)
def test_the_count_is_that_of_the_model_itself(path: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    config = json.loads(path.read_text())
    build = AutoModelForSeq2SeqLM if config["model_type"] == "t5" else AutoModelForCausalLM
    with torch.device("meta"):
        model = build.from_config(AutoConfig.for_model(**config))
    model.tie_weights()
    assert shape_of(config).parameters == sum(weight.numel() for weight in model.parameters())


@pytest.mark.parametrize(("name", "parameters"), PUBLISHED.items())
def test_the_count_is_the_published_one(name: str, parameters: int) -> None:
    assert shape_of(config_of(name)).parameters == parameters


def test_flops_follow_the_formula_of_palm() -> None:
    shape = shape_of(config_of("llama-3-8b"))
    multiplied = 8_030_261_248 - 128_256 * 4096 - 65 * 4096  # without the token table and the norms
    assert shape.matmul_parameters == multiplied
    assert flops_per_token(shape, 8192) == 6 * multiplied + 12 * 32 * 4096 * 8192


def test_a_mixture_counts_the_experts_a_token_uses() -> None:
    shape = shape_of(config_of("mixtral-8x7b"))
    assert 12.5e9 < shape.matmul_parameters < 13e9


def test_frozen_weights_cost_four_flops_each() -> None:
    shape = shape_of(SMALL)
    full, frozen = (flops_per_token(shape, 8, frozen=frozen, adapter=0) for frozen in (False, True))
    assert full - frozen == 2 * shape.matmul_parameters


@pytest.mark.parametrize(
    "config",
    [
        SMALL | {"model_type": "new_llama"},
        {"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", "hidden_size": 64}, "vision_config": {}},
        {"model_type": "t5", "d_model": 64},
        {"model_type": ["llama"], "hidden_size": 64},
    ],
)
def test_a_family_that_no_engine_trains_is_refused_by_its_name_alone(config: dict[str, Any]) -> None:
    with pytest.raises(PlanError) as caught:
        shape_of(config, where="spec.model.source hf://a/b: config.json")
    [problem] = caught.value.problems
    assert problem.field == "spec.model.source hf://a/b: config.json.model_type"
    assert str(problem).endswith("no engine of this version trains models of this type. Use a model of type " + listed(TRAINED) + ".")


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size"])
def test_a_missing_size_is_named(key: str) -> None:
    config = {name: value for name, value in SMALL.items() if name != key}
    with pytest.raises(PlanError) as caught:
        shape_of(config)
    assert [problem.field for problem in caught.value.problems] == [f"spec.model.config.{key}"]


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"hidden_size": "64"}, "hidden_size"),
        ({"hidden_size": 66}, "hidden_size"),
        ({"num_key_value_heads": 3}, "num_key_value_heads"),
        ({"model_type": None}, "model_type"),
        ({"num_hidden_layers": True}, "num_hidden_layers"),
    ],
)
def test_a_wrong_size_is_named(change: dict[str, Any], key: str) -> None:
    config = {name: value for name, value in (SMALL | change).items() if value is not None}
    with pytest.raises(PlanError) as caught:
        shape_of(config)
    assert [problem.field for problem in caught.value.problems] == [f"spec.model.config.{key}"]
