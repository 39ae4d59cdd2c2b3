"""Declared adapters as peft's own layers, put into a model in place. Called by parallel/assemble.py and export.py."""

from __future__ import annotations

from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel

from llmtrain_trainer.config import Peft

METHODS = ("lora", "rslora")


def adapter_config(peft: Peft, base: str | None = None) -> LoraConfig:
    """peft's description of the adapter; `base` is where the base weights came from.

    Raises ValueError for a method that does not keep its result in every layout.
    """
    if peft.method not in METHODS:
        raise ValueError(
            f"peft.method is {peft.method}, but the native engine has {' and '.join(METHODS)}: use one of them or engine accelerate"
        )
    targets = peft.target_modules
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=peft.rank,
        lora_alpha=peft.alpha,
        lora_dropout=peft.dropout,
        use_rslora=peft.method == "rslora",
        target_modules=targets if isinstance(targets, str) else list(targets),
        base_model_name_or_path=base,
    )


def add_adapters(network: PreTrainedModel, peft: Peft) -> None:
    """Freeze the model and put trainable adapters beside its target layers; their names follow the layer's (`q_proj.lora_A.default`)."""
    get_peft_model(network, adapter_config(peft))
