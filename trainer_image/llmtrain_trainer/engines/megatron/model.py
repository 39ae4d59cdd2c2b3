"""This rank's stages of a model as Megatron's GPTModel, with their weights in place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from megatron.core import parallel_state
from megatron.core.models.gpt.gpt_model import GPTModel
from megatron.core.transformer.transformer_config import TransformerConfig
from transformers import AutoModelForCausalLM, PreTrainedModel

from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.config.tables.tasks import is_packed
from llmtrain_trainer.engines.megatron.groups import MegatronRank
from llmtrain_trainer.engines.megatron.layers import block_spec
from llmtrain_trainer.engines.megatron.weights import fill, heads_of, held_by, source_of
from llmtrain_trainer.model.skeleton import shape_of


def outline(model_dir: Path) -> PreTrainedModel:
    """Hugging Face's model on the meta device: names and shapes, no bytes."""
    shape = shape_of(model_dir)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(shape, dtype=torch.float32, attn_implementation="eager")


def build_chunks(
    config: TrainerConfig, network: PreTrainedModel, model_dir: Path, settings: TransformerConfig, place: MegatronRank, device: torch.device
) -> list[GPTModel]:
    """One GPTModel for each of this rank's stages, virtual ones in model order. Collective. `network`: the model on the meta device."""
    mesh, shape = config.mesh, network.config
    stages = range(place.pp, len(mesh.stages), mesh.pp)
    several = len(stages) > 1
    frequencies = _frequencies(network)
    chunks = []
    for turn, stage in enumerate(stages):
        begin, end = mesh.stages[stage]
        chunk = GPTModel(
            config=settings,
            transformer_layer_spec=block_spec(settings, end - begin, packed=is_packed(config.task, config.training.packing)),
            vocab_size=shape.vocab_size,
            max_sequence_length=config.training.sequence_length,
            pre_process=stage == 0,
            post_process=stage == len(mesh.stages) - 1,
            share_embeddings_and_output_weights=shape.tie_word_embeddings,
            position_embedding_type="rope",
            vp_stage=turn if several else None,
        )
        chunk.rotary_pos_emb.inv_freq = frequencies.to(device)
        chunks.append(chunk.to(device=device, dtype=settings.params_dtype))
    _fill(chunks, config, network, model_dir, settings, place)
    return chunks


def _frequencies(network: PreTrainedModel) -> torch.Tensor:
    """Rotary frequencies as Hugging Face computes them, whatever scaling the model has."""
    rotary: Any = network.base_model.rotary_emb
    made = type(rotary)(config=network.config)
    frequencies: torch.Tensor = made.inv_freq.detach()
    return frequencies


def _fill(
    chunks: Sequence[GPTModel],
    config: TrainerConfig,
    network: PreTrainedModel,
    model_dir: Path,
    settings: TransformerConfig,
    place: MegatronRank,
) -> None:
    held = list(held_by(chunks, network.config, first_expert(settings, place)))
    fill(held, source_of(config, network, model_dir), heads_of(network.config), config.mesh.tp, place.tp)


def first_expert(settings: TransformerConfig, place: MegatronRank) -> int:
    """Number in the whole model of the first expert that this rank holds."""
    ranks: int = parallel_state.get_expert_model_parallel_world_size()
    return place.ep * (settings.num_moe_experts or 0) // ranks
