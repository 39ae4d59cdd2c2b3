"""The heads that objectives ask for, on a decoder of transformers: which model has one, where it stands, and its outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel

from llmtrain_trainer.config.tables.tasks import Task
from llmtrain_trainer.model.new_head import SCORE
from llmtrain_trainer.objectives import OBJECTIVES
from llmtrain_trainer.objectives.objective import Head

HEADS: Mapping[Head, Any] = {"causalLm": AutoModelForCausalLM, "score": AutoModelForSequenceClassification}
"""What makes the model that has the head."""

PEFT_TASKS: Mapping[Head, str] = {"causalLm": "CAUSAL_LM", "score": "SEQ_CLS"}
"""peft's word for the task of an adapter."""

NEW_HEADS: tuple[Head, ...] = ("score",)
"""Heads that a pretrained model may lack: they are drawn from the seed then, and trained in full beside adapters."""


def head_of(task: Task) -> Head:
    """Which head the task trains."""
    return OBJECTIVES[task].head


def with_head(task: Task, shape: PreTrainedConfig, attn_implementation: str, **settings: Any) -> PreTrainedModel:
    """The model of a config.json with the head of a task. Raises ValueError where transformers has none of that family.

    The attention is always named: transformers would fetch a kernel that the config.json names from the hub, and run it.
    """
    made: PreTrainedModel = HEADS[head_of(task)].from_config(shape, attn_implementation=attn_implementation, **settings)
    return made


def head_name(network: PreTrainedModel) -> str:
    """Full name of the module that is the head."""
    if hasattr(network, SCORE):
        return SCORE
    names: dict[int, str] = {id(module): name for name, module in network.named_modules()}
    return names[id(network.get_output_embeddings())]


def outputs_of(network: PreTrainedModel, head: Head, forward: Any, inputs: Mapping[str, Any]) -> torch.Tensor:
    """Outputs of the head for every position. `forward`: the model's own; for labels it would choose positions by a padding token."""
    if head == "score":
        scores: torch.Tensor = network.get_submodule(SCORE)(network.base_model(**inputs).last_hidden_state)
        return scores
    logits: torch.Tensor = forward(**inputs).logits
    return logits
