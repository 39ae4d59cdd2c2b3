"""Declared adapters as peft's own layers, put into a model in place."""

from __future__ import annotations

from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from llmtrain_trainer.config import Model, Peft
from llmtrain_trainer.config.tables.adapters import peft_options
from llmtrain_trainer.config.tables.families import family_named
from llmtrain_trainer.model.heads import NEW_HEADS, PEFT_TASKS, head_name
from llmtrain_trainer.model.new_head import SCORE
from llmtrain_trainer.objectives.objective import Head


def adapter_config(network: PreTrainedModel, peft: Peft, base: Model | None = None) -> LoraConfig:
    """peft's description of the adapter for a whole model; `base` says where the base weights came from."""
    head: Head = "score" if head_name(network) == SCORE else "causalLm"
    return LoraConfig(
        task_type=PEFT_TASKS[head],
        modules_to_save=[SCORE] if head in NEW_HEADS else None,
        r=peft.rank,
        lora_alpha=peft.alpha,
        lora_dropout=peft.dropout,
        fan_in_fan_out=family_named(network.config.model_type).transposed,
        target_modules=sorted(targets(network)) if "all-linear" in peft.target_modules else list(peft.target_modules),
        base_model_name_or_path=_opened_by_peft(base.source) if base is not None and base.source is not None else None,
        revision=base.revision if base is not None else None,
        **peft_options(peft.method),
    )


def _opened_by_peft(source: str) -> str:
    """What from_pretrained takes: a directory, or owner/name on the hub. A store it does not know: the plan says so."""
    return source.removeprefix("file://").removeprefix("hf://")


def targets(network: PreTrainedModel) -> set[str]:
    """Last names of every linear layer but the head, written out so that adapter_config.json says what was trained."""
    head = head_name(network)
    linear = {name.rpartition(".")[2] for name, part in network.named_modules() if isinstance(part, nn.Linear | Conv1D) and name != head}
    family = family_named(network.config.model_type)
    return linear - {*family.linear[2], family.linear[3]} if family.dense_named_as_experts else linear


def add_adapters(network: PreTrainedModel, peft: Peft) -> None:
    """Freeze the model and put trainable adapters beside its target layers; their names follow the layer's (`q_proj.lora_A.default`).

    A head that the base model lacks is trained in full.
    """
    config = adapter_config(network, peft)
    in_full = config.modules_to_save or ()
    if in_full:  # peft would put each such module inside another one, under other names
        config.task_type = config.modules_to_save = None
    get_peft_model(network, config)
    for name in in_full:
        network.get_submodule(name).requires_grad_(True)
