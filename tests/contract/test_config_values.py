"""What the plan refuses of a config.json, transformers refuses too, and the other way round."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmtrain_operator.manifest.problem import PlanError
from llmtrain_operator.plan.model.config_values import ACTIVATIONS, ROPE, TYPES
from llmtrain_operator.plan.model.families import shape_of
from llmtrain_trainer.config import Model
from llmtrain_trainer.config.tables.families import TRAINED
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.prepare.fitting import check_model

pytestmark = pytest.mark.long

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "max_position_embeddings": 128,
}
GPT2: dict[str, Any] = {"model_type": "gpt2", "n_embd": 64, "n_layer": 1, "n_head": 4, "n_positions": 128, "vocab_size": 512}
MIXTRAL = LLAMA | {"model_type": "mixtral", "num_local_experts": 2, "num_experts_per_tok": 1}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
BAD: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (LLAMA, {"rope_scaling": {"rope_type": "xyz", "factor": 2.0}}, "rope_scaling.rope_type is xyz"),
    (LLAMA, {"rope_parameters": {"rope_type": "mrope"}}, "rope_parameters.rope_type is mrope"),
    (LLAMA, {"rope_scaling": {"type": "su"}}, "Write longrope"),
    (LLAMA, {"rope_scaling": {"type": "linear"}}, "rope_scaling.factor is missing: linear needs a number above 0"),
    (LLAMA, {"rope_scaling": {"type": "linear", "factor": "2"}}, "rope_scaling.factor is '2'"),
    (LLAMA, {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "rope_scaling.low_freq_factor is missing"),
    (LLAMA, {"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0] * 3, "long_factor": [1.0] * 3}}, "a list of 8 numbers"),
    (LLAMA, {"rope_scaling": "linear"}, "rope_scaling is linear: it must be a mapping"),
    (LLAMA, {"rope_theta": "10000"}, "rope_theta is '10000'"),
    (LLAMA, {"head_dim": 15}, "head_dim is 15: with RoPE the width of a head must be even"),
    (LLAMA, {"hidden_act": "swiglu"}, "hidden_act is swiglu"),
    (LLAMA, {"rms_norm_eps": "1e-5"}, "rms_norm_eps is '1e-5'"),
    (LLAMA, {"initializer_range": 1}, "Write 1.0"),
    (LLAMA, {"pad_token_id": [0]}, "pad_token_id is [0]"),
    (LLAMA, {"layer_types": ["full_attention"] * 2}, "one entry for each of the 1 layers"),
    (LLAMA, {"torch_dtype": "bf16"}, "torch_dtype is bf16"),
    (LLAMA, {"max_position_embeddings": None}, "max_position_embeddings is null: it must be a whole number"),
    (LLAMA | {"model_type": "qwen3"}, {"sliding_window": "5"}, "sliding_window is '5'"),
    (GPT2, {"rope_scaling": {"rope_type": "linear"}}, "learned positions and no RoPE"),
    (GPT2, {"activation_function": "xyz"}, "activation_function is xyz"),
    (GPT2, {"resid_pdrop": "x"}, "resid_pdrop is x"),
]
GOOD: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (LLAMA, {"rope_scaling": LLAMA3, "rope_theta": 500000.0, "head_dim": 8, "hidden_act": "gelu"}),
    (LLAMA, {"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e4}, "pad_token_id": None}),
    (LLAMA, {"rope_scaling": None, "layer_types": ["full_attention"], "dtype": "bfloat16", "eos_token_id": [1, 2]}),
    (LLAMA, {"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0] * 8, "long_factor": [2] * 8, "factor": 2.0}}),
    (GPT2, {"rope_theta": "x", "activation_function": "relu"}),
]


def write(config: dict[str, Any], place: Path) -> Path:
    (place / "config.json").write_text(json.dumps(config))
    return place


@pytest.mark.parametrize(("base", "change", "says"), BAD, ids=[json.dumps(change)[:60] for _, change, _ in BAD])
def test_a_value_that_transformers_does_not_take_is_refused_by_the_plan(
    base: dict[str, Any], change: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(PlanError) as planned:
        shape_of(base | change)
    assert says in str(planned.value)
    with pytest.raises(BadData):
        check_model(Model(config=base | change), write(base | change, tmp_path), lambda _: None)


@pytest.mark.parametrize(("base", "change"), GOOD, ids=[json.dumps(change)[:60] for _, change in GOOD])
def test_a_value_that_transformers_takes_is_planned(base: dict[str, Any], change: dict[str, Any], tmp_path: Path) -> None:
    shape_of(base | change)
    assert check_model(Model(config=base | change), write(base | change, tmp_path), lambda _: None).rows == 512


BEYOND: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (LLAMA, {"rms_norm_eps": -1.0}, "rms_norm_eps is -1.0: it must be 0 or more"),
    (LLAMA, {"rms_norm_eps": float("nan")}, "it must be 0 or more"),
    (LLAMA, {"rms_norm_eps": -1}, "Write it as in the model's config.json"),
    (LLAMA, {"attention_dropout": 1.5}, "attention_dropout is 1.5: it must be from 0 to 1"),
    (LLAMA, {"initializer_range": -0.02}, "initializer_range is -0.02: it must be from 0 to 1"),
    (LLAMA, {"pad_token_id": 512}, "pad_token_id is 512: the embedding has 512 rows"),
    (LLAMA | {"model_type": "mistral"}, {"sliding_window": 0}, "sliding_window is 0: it must be 1 or more, or null"),
    (GPT2, {"attn_pdrop": -0.1}, "attn_pdrop is -0.1"),
    (MIXTRAL, {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "head_dim is missing: for a mixtral, rope_type yarn"),
]


@pytest.mark.parametrize(("base", "change", "says"), BEYOND, ids=[json.dumps(change)[:60] for _, change, _ in BEYOND])
def test_a_number_with_which_ranks_would_end_is_refused_by_the_plan(base: dict[str, Any], change: dict[str, Any], says: str) -> None:
    with pytest.raises(PlanError) as planned:
        shape_of(base | change)
    assert says in str(planned.value)


def test_the_head_dim_that_a_mixtral_is_asked_for_is_taken() -> None:
    scaled = MIXTRAL | {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}
    with pytest.raises(PlanError, match="Give head_dim: 16"):
        shape_of(scaled)
    assert shape_of(scaled | {"head_dim": 16}).head_dim == 16
    assert shape_of(LLAMA | {"pad_token_id": -1, "attention_dropout": None}).vocab == 512


def test_more_experts_a_token_than_there_are_is_refused() -> None:
    config = LLAMA | {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 5}
    with pytest.raises(PlanError, match="num_experts_per_tok is 5: it must not exceed the number of experts"):
        shape_of(config)


def test_the_lists_are_those_of_transformers() -> None:
    from transformers import AutoConfig
    from transformers.activations import ACT2FN
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    assert sorted(ACTIVATIONS) == sorted(ACT2FN)
    assert sorted(ROPE) == sorted({*ROPE_INIT_FUNCTIONS, "default"})
    assert TYPES.keys() <= set(TRAINED)
    for family, keys in TYPES.items():
        known = dir(type(AutoConfig.for_model(family))())
        assert [key for key in keys if key not in known] == []
