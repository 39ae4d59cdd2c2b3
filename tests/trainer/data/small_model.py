"""Small models with weights of every family that is trained, in directories as they are published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SMALL: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 512,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.1,
}
EXPERTS = {"num_experts_per_tok": 2}
QWEN_EXPERTS = EXPERTS | {"num_experts": 4, "moe_intermediate_size": 8}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"model_type": "mistral"},
    "qwen2": {"model_type": "qwen2", "tie_word_embeddings": True},
    "qwen3": {"model_type": "qwen3"},
    "gpt2": {"model_type": "gpt2", "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "mixtral": {"model_type": "mixtral", "num_local_experts": 4} | EXPERTS,
    "qwen2_moe": {"model_type": "qwen2_moe", "shared_expert_intermediate_size": 8} | QWEN_EXPERTS,
    "qwen3_moe": {"model_type": "qwen3_moe", "decoder_sparse_step": 2} | QWEN_EXPERTS,
}


def write_model(changes: dict[str, Any], directory: Path) -> dict[str, Any]:
    """Config and random weights of a small model, as transformers saves them; the weights by the model's own names."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = SMALL | changes
    directory.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(AutoConfig.for_model(**shape), dtype=torch.float32)
    network.save_pretrained(directory)
    (directory / "generation_config.json").unlink()
    (directory / "config.json").write_text(json.dumps(shape))
    return {name: weight.detach() for name, weight in network.named_parameters()}
