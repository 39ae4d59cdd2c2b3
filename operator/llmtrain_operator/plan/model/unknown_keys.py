"""Keys of an inline config.json that no code reads: transformers accepts them silently, and the key that was meant keeps its default.

Only families whose keys are in config_values.py are judged here; preparation asks transformers about the others.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from llmtrain_operator.manifest.suggestions import shown
from llmtrain_operator.plan.model.config_values import ROPE, TYPES, Wrong
from llmtrain_trainer.config.model import CODE
from llmtrain_trainer.config.tables.families import family_named


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


NEAR = 0.85
"""Likeness from which on a key counts as a misspelt one."""

_GENERAL = _words(
    "_name_or_path architectures bos_token_id chunk_size_feed_forward decoder_start_token_id dtype eos_token_id finetuning_task head_dim "
    "hidden_act id2label initializer_range is_decoder is_encoder_decoder label2id layer_types max_length max_position_embeddings "
    "model_type n_ctx num_labels output_attentions output_hidden_states pad_token_id partial_rotary_factor pretraining_tp prefix "
    "problem_type quantization_config compression_config return_dict rope_parameters rope_scaling rope_theta sep_token_id "
    "task_specific_params tie_word_embeddings tokenizer_class torch_dtype transformers_version unk_token_id use_cache vocab_size"
)
"""Keys that a config.json of any family may have: transformers writes or reads them."""

_OF_FAMILIES = _words(
    "add_cross_attention attention_bias max_window_layers mlp_bias mlp_only_layers n_inner num_experts num_local_experts "
    "scale_attn_by_inverse_layer_idx shared_expert_intermediate_size summary_activation summary_first_dropout summary_proj_to_labels "
    "summary_type summary_use_proj use_sliding_window activation_function decoder_sparse_step num_experts_per_tok sliding_window "
    "num_key_value_heads"
)

_ROPE = _words(
    "rope_type type rope_theta original_max_position_embeddings attention_factor beta_fast beta_slow mscale mscale_all_dim truncate "
    "partial_rotary_factor full_attention sliding_attention"
).union(*ROPE.values())
"""Keys of a mapping that describes the rotary embedding."""


def misspelt(config: Mapping[str, Any]) -> Iterator[Wrong]:
    """A refusal for each unknown key that is like a known one that is not given."""
    if config["model_type"] not in TYPES:
        return
    yield from _misspelt(config, _known(str(config["model_type"])), "")
    for name in ("rope_scaling", "rope_parameters"):
        if isinstance(found := config.get(name), Mapping):
            yield from _misspelt(found, _ROPE, f"{name}.")


def unread(config: Mapping[str, Any]) -> list[str]:
    """Unknown keys."""
    return [] if config["model_type"] not in TYPES else sorted(key for key in config if key not in _known(str(config["model_type"])))


def _misspelt(given: Mapping[str, Any], known: frozenset[str], path: str) -> Iterator[Wrong]:
    for key, value in given.items():
        near = [] if key in known else difflib.get_close_matches(key, known, n=1, cutoff=NEAR)
        if near and near[0] not in given:
            yield f"{path}{key}", shown(value), "transformers reads no such key", f"Write {near[0]}"


def _known(model_type: str) -> frozenset[str]:
    family = family_named(model_type)
    sizes = {*family.keys.values(), *family.mixture.values(), *family.aliases, *family.aliases.values()}
    return _GENERAL | _OF_FAMILIES | sizes | {*TYPES.get(model_type, ()), *CODE}
