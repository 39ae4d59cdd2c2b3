"""config.json as transformers writes and reads it: other names of keys, null, rotary embeddings old and new, windows, quantization."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import CONFIG_MAPPING, AutoConfig
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.manifest.problem import PlanError
from llmtrain_operator.plan.model.families import shape_of
from llmtrain_operator.plan.model.traits import PLAIN
from llmtrain_operator.plan.plan import Plan, plan
from llmtrain_trainer.config.tables.families import FAMILIES, TRAINED

SHAPES = sorted((Path(__file__).parents[1] / "shapes").glob("*.json"))


LACKING = {"deepseek_v2": {"num_experts_per_tok": 6}}
"""Sizes that a configuration class of transformers leaves open."""


def saved(config: Mapping[str, Any]) -> dict[str, Any]:
    """What save_pretrained makes of a config.json."""
    found: dict[str, Any] = json.loads(AutoConfig.for_model(**config).to_json_string(use_diff=False))
    return found


@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_config_of_defaults_as_transformers_saves_it_is_read(model_type: str) -> None:
    config = CONFIG_MAPPING[model_type](**LACKING.get(model_type, {}))
    shape = shape_of(json.loads(config.to_json_string(use_diff=False)))
    assert (shape.layers, shape.hidden, shape.heads) == (config.num_hidden_layers, config.hidden_size, config.num_attention_heads)


@pytest.mark.parametrize("path", SHAPES, ids=lambda path: path.stem)
def test_a_published_config_saved_by_transformers_has_the_same_shape(path: Path) -> None:
    published = json.loads(path.read_text())
    ours, theirs = shape_of(published), shape_of(saved(published))
    assert replace(theirs, traits=PLAIN) == replace(ours, traits=PLAIN)
    if ours.model_type in TRAINED:
        assert theirs.traits == ours.traits


@pytest.mark.parametrize("model_type", FAMILIES)
def test_every_other_name_of_a_key_is_read(model_type: str) -> None:
    own = CONFIG_MAPPING[model_type].attribute_map
    ours = {frozenset(pair) for pair in FAMILIES[model_type].aliases.items()}
    assert {frozenset(pair) for pair in own.items()} == ours
    whole = json.loads(CONFIG_MAPPING[model_type](**LACKING.get(model_type, {})).to_json_string(use_diff=False))
    for pair in ours:
        here, there = sorted(pair, key=lambda key: key not in whole)
        renamed = {there if key == here else key: value for key, value in whole.items()}
        assert shape_of(renamed) == shape_of(whole)


def test_two_names_of_a_key_that_contradict_each_other_are_refused() -> None:
    whole = json.loads(CONFIG_MAPPING["qwen3_moe"]().to_json_string(use_diff=False))
    assert shape_of(whole | {"num_experts": 128}) == shape_of(whole)
    with pytest.raises(PlanError, match=r"spec.model.config.num_local_experts is 128: num_experts is 64, and both keys mean the same"):
        shape_of(whole | {"num_experts": 64})


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "qwen3"])
def test_null_key_value_heads_are_as_many_as_heads(model_type: str) -> None:
    config = {"model_type": model_type, "num_attention_heads": 8, "num_key_value_heads": None, "hidden_size": 1024}
    shape = shape_of(saved(config) | {"num_key_value_heads": None})
    assert shape.kv_heads == AutoConfig.for_model(**config).num_key_value_heads == 8


ROTARY: list[dict[str, Any]] = [
    {},
    {"rope_theta": 500000.0},
    {"rope_scaling": None},
    {"rope_scaling": {"type": "linear", "factor": 2.0}},
    {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}},
    {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}},
    {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4, "original_max_position_embeddings": 64}},
    {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}},
    {"partial_rotary_factor": 0.5},
]


@pytest.mark.parametrize("rotary", ROTARY, ids=str)
def test_the_rotary_embedding_is_the_one_that_transformers_makes(rotary: dict[str, Any]) -> None:
    config = {"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 256} | rotary
    made = AutoConfig.for_model(**config).rope_parameters
    for given in (saved(config), saved(config) | rotary):
        traits = shape_of(given).traits
        assert (traits.rope, traits.partial_rotary) == (made["rope_type"], made.get("partial_rotary_factor", 1.0))


WINDOWS: list[dict[str, Any]] = [{}, {"sliding_window": 64}, {"sliding_window": None}, {"use_sliding_window": True, "sliding_window": 64}]


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("model_type", ["mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe"])
def test_the_window_is_the_one_that_transformers_uses(model_type: str, window: dict[str, Any]) -> None:
    config = {"model_type": model_type} | window
    whole = saved({"model_type": model_type})
    whole.pop("sliding_window")
    assert shape_of(whole | window).traits.window == AutoConfig.for_model(**config).sliding_window


MEGATRON: dict[str, Any] = {"parallelism": {"engine": "megatron"}}
NOT_IN_MEGATRON: list[tuple[str, dict[str, Any], str]] = [
    ("llama-3-8b", {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "spec.model.config is rope_type yarn: engine megatron supports"),
    ("llama-3-8b", {"rope_scaling": {"type": "dynamic", "factor": 4.0}}, "spec.model.config is rope_type dynamic: "),
    ("llama-3-8b", {"partial_rotary_factor": 0.5}, "spec.model.config is partial_rotary_factor 0.5: "),
    ("llama-3-8b", {"hidden_act": "gelu"}, "spec.model.config is hidden_act gelu: "),
    ("llama-3-8b", {"attention_bias": True}, "spec.model.config is attention_bias true: "),
    ("llama-3-8b", {"mlp_bias": True}, "spec.model.config is mlp_bias true: "),
    ("qwen3-8b", {"attention_bias": True}, "spec.model.config is attention_bias true: "),
    ("mistral-7b", {"sliding_window": 1024}, "spec.model.config is sliding_window 1024: "),
    ("qwen3-8b", {"use_sliding_window": True, "sliding_window": 1024}, "spec.model.config is sliding_window 1024: "),
    ("mixtral-8x7b", {"output_router_logits": True}, "spec.model.config is output_router_logits true: "),
    ("mixtral-8x7b", {"router_jitter_noise": 0.1}, "spec.model.config is router_jitter_noise 0.1: "),
]


@pytest.mark.parametrize(("name", "asked", "message"), NOT_IN_MEGATRON, ids=[str(case[1]) for case in NOT_IN_MEGATRON])
def test_what_a_config_asks_and_megatron_lacks_is_refused_by_the_plan_and_native_takes_it(
    job: Callable[..., LLMTrainJob], name: str, asked: dict[str, Any], message: str
) -> None:
    config = job(name).spec.model.config | asked  # type: ignore[operator]
    with pytest.raises(PlanError) as caught:
        plan(job(name, **MEGATRON, model={"config": config}), shape_of(config))
    (problem,) = caught.value.problems
    assert message in str(problem) and problem.way_out.startswith("Use engine native")
    plan(job(name, parallelism={"engine": "native"}, model={"config": config}), shape_of(config))


def test_a_source_is_told_what_its_config_says(job: Callable[..., LLMTrainJob]) -> None:
    config = job("mistral-7b").spec.model.config | {"sliding_window": 16}  # type: ignore[operator]
    with pytest.raises(PlanError, match=r"spec.model.source is hf://a/b: its config.json says sliding_window 16: .*or sequenceLength 16"):
        plan(job(**MEGATRON, model={"source": "hf://a/b"}), shape_of(config))


def test_what_is_asked_for_but_off_passes_with_megatron(job: Callable[..., LLMTrainJob]) -> None:
    off = {"output_router_logits": True, "router_aux_loss_coef": 0.0, "sliding_window": 1 << 20, "attention_bias": True, "mlp_bias": True}
    config = job("mixtral-8x7b").spec.model.config | off  # type: ignore[operator]
    assert plan(job("mixtral-8x7b", **MEGATRON, model={"config": config}), shape_of(config)).engine == "megatron"


def test_the_router_loss_is_told_and_that_the_shown_loss_lacks_it(planned: Callable[..., Plan], job: Callable[..., LLMTrainJob]) -> None:
    config = job("mixtral-8x7b").spec.model.config | {"output_router_logits": True, "router_aux_loss_coef": 10.0}  # type: ignore[operator]
    for engine in ("native", "deepspeed"):
        given = job("mixtral-8x7b", parallelism={"engine": engine}, model={"config": config})
        assert any("router_aux_loss_coef 10" in line and "without it" in line for line in plan(given, shape_of(config)).advice)
        assert not any("router_aux_loss_coef" in line for line in planned("mixtral-8x7b", parallelism={"engine": engine}).advice)


def test_a_vocabulary_that_tensor_does_not_divide_stays_whole_and_is_counted_whole(job: Callable[..., LLMTrainJob]) -> None:
    config = job("llama-3-8b").spec.model.config
    assert config is not None
    odd = config | {"vocab_size": config["vocab_size"] + 1}
    for engine in ("native", "deepspeed"):
        split, whole = (plan(job(parallelism={"engine": engine, "tensor": 2}, model={"config": c}), shape_of(c)) for c in (config, odd))
        assert split.memory and whole.memory and whole.memory.peak > split.memory.peak
        assert any("holds the full embedding and LM head" in line for line in whole.advice)


QUANTIZED: dict[str, dict[str, Any]] = {
    method: {"quantization_config": {"quant_method": method.removesuffix("_4bit").removesuffix("_8bit"), "bits": 4}}
    for method in AUTO_QUANTIZATION_CONFIG_MAPPING
    if method not in ("fp8", "mxfp8", "fbgemm_fp8", "bitsandbytes_4bit", "bitsandbytes_8bit", "gptq", "awq", "metal")
} | {
    "bits without a method": {"quantization_config": {"bits": 4}},
    "packed for one kernel": {"quantization_config": {"quant_method": "compressed-tensors", "format": "marlin-24"}},
    "one group of another kind": {
        "quantization_config": {
            "quant_method": "compressed-tensors",
            "format": "mixed-precision",
            "config_groups": {"a": {"format": "pack-quantized"}, "b": {"format": "mxfp6-pack-quantized"}},
        }
    },
    "turned": {"quantization_config": {"quant_method": "compressed-tensors", "format": "pack-quantized", "transform_config": {"a": 1}}},
    "gptq for one kernel": {"quantization_config": {"quant_method": "gptq", "bits": 4, "checkpoint_format": "marlin"}},
    "rounded for one kernel": {"quantization_config": {"quant_method": "auto-round", "packing_format": "auto_round:marlin"}},
    "awq in another order": {"quantization_config": {"quant_method": "awq", "bits": 4, "version": "gemv"}},
    "sparse": {
        "quantization_config": {
            "quant_method": "compressed-tensors",
            "format": "float-quantized",
            "sparsity_config": {"format": "sparse-24-bitmask"},
        }
    },
    "modelopt": {"quantization_config": {"quant_method": "modelopt", "quant_algo": "FP8"}},
    "older key": {"compression_config": {"quant_method": "compressed-tensors", "format": "sparse-bitmask"}},
    "mlx with layers of other groups": {"quantization": {"group_size": 64, "bits": 4, "lm_head": {"group_size": 32, "bits": 8}}},
    "mlx in floats": {"quantization": {"group_size": 32, "bits": 4, "mode": "mxfp4"}},
    "unknown": {"quantization_config": {"quant_method": "of-tomorrow"}},
    "no mapping": {"quantization_config": "int4"},
    "a list": {"quantization_config": [1]},
}


@pytest.mark.parametrize("keys", QUANTIZED.values(), ids=QUANTIZED)
def test_weights_of_few_bits_are_refused_by_the_plan(job: Callable[..., LLMTrainJob], keys: dict[str, Any]) -> None:
    shape = shape_of(job("llama-3-8b").spec.model.config | keys)  # type: ignore[operator]
    for engine in ("native", "deepspeed", "megatron"):
        with pytest.raises(PlanError, match=r"spec.model.source is hf://a/b: its config.json says that the weights are stored as "):
            plan(job(model={"source": "hf://a/b"}, parallelism={"engine": engine}), shape)
    random = plan(job(model={"source": "hf://a/b", "init": "random"}), shape)
    assert any("random weights are not quantized" in line for line in random.advice)


READABLE: list[dict[str, Any]] = [
    {"quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False},
    {"quant_method": "gptq", "bits": 4, "group_size": 128},
    {"quant_method": "gptq", "bits": 3, "checkpoint_format": "gptq_v2"},
    {"quant_method": "awq", "bits": 4, "version": "GEMM", "zero_point": True},
    {"quant_method": "mxfp8"},
    {"quant_method": "auto-round", "bits": 4, "group_size": 128, "packing_format": "auto_round:auto_gptq"},
    {"quant_method": "compressed-tensors", "format": "pack-quantized"},
    {
        "quant_method": "compressed-tensors",
        "format": "mixed-precision",
        "config_groups": {"a": {"format": "pack-quantized"}, "b": {"format": "float-quantized"}},
    },
    {"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"},
    {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128]},
    {"quant_method": "fp8"},
    {"quant_method": "fbgemm_fp8"},
    {"quant_method": "compressed-tensors", "format": "float-quantized", "quantization_status": "compressed"},
    {"quant_method": "compressed-tensors", "format": "int-quantized"},
]


@pytest.mark.parametrize("found", READABLE, ids=str)
def test_weights_with_plain_scales_are_read_and_it_is_told(job: Callable[..., LLMTrainJob], found: dict[str, Any]) -> None:
    shape = shape_of(job("llama-3-8b").spec.model.config | {"quantization_config": found})  # type: ignore[operator]
    made = plan(job(model={"source": "hf://a/b"}), shape)
    assert any(f"The weights are stored as {found['quant_method']}" in line and "exported unquantized" in line for line in made.advice)


@pytest.mark.parametrize("key", ["quantization_config", "compression_config", "quantization"])
def test_null_is_no_quantization(job: Callable[..., LLMTrainJob], key: str) -> None:
    shape = shape_of(job("llama-3-8b").spec.model.config | {key: None})  # type: ignore[operator]
    assert shape.traits.quantized is None and not any("stored as" in line for line in plan(job(model={"source": "hf://a/b"}), shape).advice)
