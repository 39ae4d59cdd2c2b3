"""The whole model without its weights: names and shapes on the meta device, as every engine begins."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AttentionInterface, AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.config.tables.families import TRAINED, family_named
from llmtrain_trainer.config.tables.tasks import is_packed
from llmtrain_trainer.model.adapters.attach import add_adapters
from llmtrain_trainer.model.heads import with_head

ATTENTION = {"sdpa": "sdpa", "eager": "eager", "flash": "flash_attention_2"}
UNMASKED = "sdpa_unmasked"
"""sdpa for rows in which each token sees all before it. Hugging Face has no mask for this name, so it does not look in each forward pass
for samples packed into a row, which on a GPU would wait for the device."""

AttentionInterface.register(UNMASKED, sdpa_attention_forward)


def shape_of(model_dir: Path) -> PreTrainedConfig:
    """The model's config as it is trained: what config.json says of outputs is ours to choose, and no row of the embedding is left out.

    With a pad_token_id transformers never trains that token's row, also where it is the token that ends an answer; and neither tensor
    parallelism nor Megatron know of such a row.
    """
    return AutoConfig.from_pretrained(model_dir, return_dict=True, output_attentions=False, output_hidden_states=False, pad_token_id=None)


def skeleton(config: TrainerConfig, model_dir: Path, *, attention: str | None = None) -> PreTrainedModel:
    """The whole model on the meta device, in fp32, adapters included: names and shapes, no bytes.

    `attention` names a kernel in Hugging Face's registry; without it the one of the manifest.
    """
    shape = shape_of(model_dir)
    kernel = attention or (
        ATTENTION[family_named(shape.model_type).kernel(config.model.attention)] if needs_mask(config, shape) else UNMASKED
    )
    with torch.device("meta"):
        network = with_head(config.task, shape, dtype=torch.float32, attn_implementation=kernel)
        if config.peft is not None:
            add_adapters(network, config.peft)
    return network.train()


def needs_mask(config: TrainerConfig, shape: PreTrainedConfig) -> bool:
    """Whether a token may not see all tokens before it in its row, or the kernel makes its own masks."""
    packed = is_packed(config.task, config.training.packing)
    family = family_named(shape.model_type)
    windows = shape.model_type not in TRAINED or getattr(shape, "sliding_window", None) is not None
    return config.model.attention != "sdpa" or packed or windows or not family.sdpa
