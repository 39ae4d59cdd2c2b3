"""Any config.json of a family of several engines: the plan counts its weights and its window, and engines compute as transformers does.

Keys are drawn at random, among them those that families name otherwise, that null stands for a default of, and that few models have.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from llmtrain_operator.plan.model.families import shape_of
from llmtrain_trainer.config.tables.families import trained_by
from llmtrain_trainer.convert.launch import load_script
from llmtrain_trainer.engines.native.assemble import skeleton
from llmtrain_trainer.model.materialize import materialize
from llmtrain_trainer.model.pretrained import Pretrained
from llmtrain_trainer.model.stage import cut, tied_names
from llmtrain_trainer.objectives import OBJECTIVES

parity = load_script(Path(__file__).parents[2] / "benchmarks" / "parity.py")
CONFIG = parity.config_of(parity.Case(), 1)
LENGTH = 24
Draw = Callable[..., Any]

ROTARY: list[dict[str, Any]] = [
    {},
    {"rope_theta": 500.0},
    {"rope_scaling": None},
    {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_theta": 1000.0},
    {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}},
    {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8}},
    {"rope_parameters": {"rope_type": "default", "rope_theta": 77.0}},
    {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 100.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        }
    },
]


@st.composite
def configs(draw: Draw) -> dict[str, Any]:
    """A small config.json."""
    family, layers = draw(st.sampled_from(trained_by("deepspeed"))), draw(st.integers(1, 3))
    heads, dim = draw(st.sampled_from([1, 2, 4])), draw(st.sampled_from([4, 8]))
    found: dict[str, Any] = {"model_type": family, "vocab_size": draw(st.sampled_from([32, 37])), "initializer_range": 0.3}
    if draw(st.booleans()):
        found["tie_word_embeddings"] = draw(st.sampled_from([True, False]))
    for key in ("pad_token_id", "bos_token_id", "eos_token_id"):
        if draw(st.booleans()):
            found[key] = draw(st.sampled_from([0, 3, None]))
    if family == "gpt2":
        sizes = {"n_layer": layers, "n_head": heads, "n_embd": heads * dim, "n_positions": 64}
        named = {"n_layer": "num_hidden_layers", "n_head": "num_attention_heads", "n_embd": "hidden_size"}
        found |= {named.get(key, key) if draw(st.booleans()) else key: value for key, value in sizes.items()}
        return found | {"n_inner": draw(st.sampled_from([None, 12])), "scale_attn_by_inverse_layer_idx": draw(st.booleans())}
    found |= {"num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": 12, "max_position_embeddings": 64}
    found |= {"num_key_value_heads": draw(st.sampled_from([1, heads])), **draw(st.sampled_from(ROTARY))}
    found["hidden_size"] = heads * dim
    if family in ("qwen3", "qwen3_moe") or draw(st.booleans()):
        found["head_dim"] = dim
    if "head_dim" in found and family != "qwen2":
        found["hidden_size"] = draw(st.sampled_from([heads * dim, 12]))
    if family in ("llama", "qwen3", "qwen3_moe"):
        found["attention_bias"] = draw(st.booleans())
    if family == "llama":
        found["mlp_bias"] = draw(st.booleans())
    found |= draw(st.sampled_from([{}, {"sliding_window": None}, {"sliding_window": 5}, {"sliding_window": 5, "use_sliding_window": True}]))
    if draw(st.booleans()):
        found["max_window_layers"] = draw(st.integers(0, 3))
    if family == "mixtral":
        found |= {draw(st.sampled_from(["num_local_experts", "num_experts"])): 4, "num_experts_per_tok": draw(st.sampled_from([1, 2]))}
    if family in ("qwen2_moe", "qwen3_moe"):
        found |= {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8, "norm_topk_prob": draw(st.booleans())}
        found |= {"decoder_sparse_step": draw(st.integers(1, 2)), "mlp_only_layers": draw(st.sampled_from([[], [0]]))}
    if family == "qwen2_moe":
        found |= {"shared_expert_intermediate_size": 8}
    return found


def windows(network: Any) -> set[int | None]:
    """What the layers' attention is told."""
    return {getattr(module, "sliding_window", None) for name, module in network.named_modules() if name.endswith("self_attn")}


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(config=configs())
def test_the_plan_and_the_engines_read_any_config_as_transformers_does(config: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        torch.manual_seed(0)
        try:
            reference = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=torch.float32).eval()
        except TypeError:  # transformers takes no dynamic rotary embedding of Mixtral without head_dim: preparation refuses it
            reject()
        reference.save_pretrained(directory)
        (directory / "config.json").write_text(json.dumps(config))
        shape = shape_of(config)
        assert shape.parameters == sum(weight.numel() for weight in reference.parameters())
        used = windows(reference)
        assert used <= {None, shape.traits.window}
        network: Any = skeleton(CONFIG, directory).eval()
        tied = tied_names(network)
        stage = cut(network, 0, ((0, shape.layers),), OBJECTIVES["pretrain"])
        materialize(network, "", Pretrained(directory, network.base_model_prefix, tied), 0, torch.device("cpu"))
        ids = torch.arange(2 * LENGTH).view(2, LENGTH) % config["vocab_size"]
        with torch.no_grad():
            ours, theirs = stage.network(ids), AutoModelForCausalLM.from_pretrained(directory).eval()(ids).logits
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_a_window_that_counts_is_drawn() -> None:
    """Else the test above would say nothing of windows."""
    config = {"model_type": "mistral", "sliding_window": 5, "hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1}
    assert shape_of(config | {"num_hidden_layers": 1, "intermediate_size": 12, "vocab_size": 32}).traits.window == 5
