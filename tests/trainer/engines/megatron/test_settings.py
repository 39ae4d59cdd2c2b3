"""Megatron's configuration from a model's config.json and a run, as golden files; UPDATE_GOLDEN=1 writes them anew. And what is refused."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from megatron.core.transformer.transformer_config import TransformerConfig
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.engines.megatron.groups import STAND_IN, device_of
from llmtrain_trainer.engines.megatron.names import FAMILIES
from llmtrain_trainer.engines.megatron.settings import transformer_config

SHAPES = Path(__file__).parents[3] / "operator" / "shapes"
GOLDEN = Path(__file__).with_name("golden")
PLAIN = TransformerConfig(num_layers=2, hidden_size=8, num_attention_heads=2)
RUNS: dict[str, dict[str, Any]] = {
    "llama-3-8b": {"pp": 2, "tp": 2, "dp": 2, "virtual": 2, "training": {"activationCheckpointing": "full"}},
    "qwen2.5-0.5b": {"dp": 2},
    "qwen3-0.6b": {"tp": 2, "training": {"precision": "bf16"}},
    "mixtral-8x7b": {"dp": 2, "ep": 2},
    "qwen3-30b-a3b": {"pp": 2},
}


def run(parity: ModuleType, shape: dict[str, Any], **case: Any) -> TrainerConfig:
    config: TrainerConfig = parity.config_of(parity.Case(engine="megatron", **({"shape": shape, "zero_stage": 1} | case)), 1)
    return config


def described(config: TransformerConfig) -> dict[str, str]:
    """Fields that are not as a plain model has them."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    changed = {name: value for name, value in values.items() if value != getattr(PLAIN, name)}
    return {name: getattr(value, "__name__", str(value)) for name, value in sorted(changed.items())}


@pytest.mark.parametrize("name", RUNS)
def test_the_configuration_is_the_golden_one(parity: ModuleType, name: str) -> None:
    shape = json.loads((SHAPES / f"{name}.json").read_text())
    config = transformer_config(AutoConfig.for_model(**shape), run(parity, shape, **RUNS[name]), transformer_engine=False)
    text, golden = json.dumps(described(config), indent=1) + "\n", GOLDEN / f"{name}.json"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"model_type": "gpt2"}, {}, r"model_type is gpt2, but the megatron engine maps llama.*: use engine native"),
    ({"hidden_act": "gelu"}, {}, r"model\.hidden_act is gelu"),
    ({"attention_bias": True}, {}, r"model\.attention_bias is True, but Megatron gives a bias to all linear layers or to none"),
    ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, {}, r"model\.rope_parameters is .*dynamic"),
    ({"model_type": "mistral", "sliding_window": 16}, {}, r"model\.sliding_window is 16, but the sequences of 32 tokens must fit into it"),
    ({"model_type": "mixtral", "output_router_logits": True}, {}, r"model\.output_router_logits is True"),
    ({"model_type": "mixtral", "router_jitter_noise": 0.1}, {}, r"model\.router_jitter_noise is 0\.1"),
    ({"mlp_bias": True}, {}, r"model\.mlp_bias is True, but Megatron gives a bias to all linear layers or to none"),
    ({"vocab_size": 513}, {"tp": 2}, r"model\.vocab_size is 513, but tensor \(2\) must divide it"),
    ({"num_key_value_heads": 1}, {"tp": 2}, r"model\.num_key_value_heads is 1, but tensor x context \(2\) must divide it"),
    ({}, {"dp": 2, "ep": 2}, r"mesh\.ep is 2, but it must divide the 0 experts"),
    ({}, {"zero_stage": 3}, r"mesh\.zeroStage is 3, but Megatron shards the optimizer states or nothing: use 1 or 0"),
    ({}, {"pp": 2, "schedule": "gpipe"}, r"mesh\.schedule is gpipe"),
    ({}, {"peft": {"method": "lora"}}, r"peft\.method is lora, but the megatron engine trains all weights: use engine native or deepspeed"),
    ({}, {"training": {"compile": True}}, r"training\.compile is True"),
    ({}, {"training": {"sequenceLength": 33}, "tp": 2}, r"training\.sequenceLength is 33"),
]


@pytest.mark.parametrize(("shape", "case", "message"), REFUSED)
def test_what_megatron_cannot_express_is_refused_with_the_way_out(
    parity: ModuleType, shape: dict[str, Any], case: dict[str, Any], message: str
) -> None:
    whole = parity.LLAMA | shape
    with pytest.raises(ValueError, match=message):
        transformer_config(AutoConfig.for_model(**whole), run(parity, shape, **case), transformer_engine=False)


READ = {
    "hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, num_key_value_heads, head_dim, vocab_size",
    "rms_norm_eps, attention_dropout, tie_word_embeddings, rope_parameters, attention_bias, mlp_bias, initializer_range",
    "num_local_experts, num_experts_per_tok, moe_intermediate_size, norm_topk_prob, router_aux_loss_coef",
}
"""Keys that Megatron's configuration, its weights or its rotary table come from."""

REFUSED_KEYS = {
    "hidden_act, sliding_window, use_sliding_window, layer_types, max_window_layers, output_router_logits, router_jitter_noise",
    "mlp_only_layers, decoder_sparse_step",
}
"""Keys that are refused where they ask for something."""

WITHOUT_EFFECT = {"use_cache, pad_token_id, bos_token_id, eos_token_id, max_position_embeddings, pretraining_tp"}
"""Keys that change nothing of training in transformers either: rotary positions go on, and a cache serves generation."""


@pytest.mark.parametrize("family", FAMILIES)
def test_every_key_of_a_family_is_read_or_refused_or_without_effect(family: str) -> None:
    plain = PreTrainedConfig().to_dict()
    known = {key for line in READ | REFUSED_KEYS | WITHOUT_EFFECT for key in line.split(", ")}
    assert set(CONFIG_MAPPING[family]().to_dict()) - set(plain) <= known


def test_several_problems_are_told_at_once(parity: ModuleType) -> None:
    shape = parity.LLAMA | {"hidden_act": "gelu"}
    with pytest.raises(ValueError, match=r"hidden_act is gelu.*; .*zeroStage is 2"):
        transformer_config(AutoConfig.for_model(**shape), run(parity, {}, zero_stage=2), transformer_engine=False)


def test_a_cpu_is_refused_without_a_stand_in_for_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STAND_IN, raising=False)
    with pytest.raises(ValueError, match=r"device is cpu, but Megatron-core runs on CUDA GPUs only: set resources\.gpusPerNode"):
        device_of("cpu")
