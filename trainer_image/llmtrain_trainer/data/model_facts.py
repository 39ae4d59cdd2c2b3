"""What a checkpoint and a model must have in common: the architecture, and the weights that training starts from.

A checkpoint holds weights under names and shapes; what they mean (heads, rope, norms) is in config.json alone, and the frozen base of
adapters is in no checkpoint at all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from llmtrain_trainer.config.model import Model
from llmtrain_trainer.config.quantized import KEYS
from llmtrain_trainer.config.strict import Strict
from llmtrain_trainer.data.cache import digest

IGNORED = {
    *("_name_or_path", "transformers_version", "architectures", "auto_map", "tokenizer_class", "problem_type", "finetuning_task"),
    *("dtype", "torch_dtype", "use_cache", *KEYS, "initializer_range", "gradient_checkpointing", "pretraining_tp"),
    *("bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "unk_token_id", "decoder_start_token_id", "prefix"),
    *("forced_bos_token_id", "forced_eos_token_id", "id2label", "label2id", "return_dict", "task_specific_params"),
    *("output_attentions", "output_hidden_states", "output_router_logits", "chunk_size_feed_forward"),
    *("attn_implementation", "_attn_implementation", "_attn_implementation_internal"),
}
"""Keys of config.json that do not affect the meaning of the weights."""

_BLOCK = 1 << 12
_BLOCKS = 5
"""Number of blocks read of a larger tensor, spread evenly: other weights differ everywhere."""


class ModelFacts(Strict):
    """Facts about the model that a run trains."""

    shape: dict[str, Any] = {}
    """config.json with the defaults of its family, without what says nothing of the weights. Empty where it is not known."""

    weights: str | None = None
    """Digest of the weights that training starts from. None where it is not known."""

    @classmethod
    def of(cls, model: Model, directory: Path, seed: int) -> ModelFacts:
        """`directory`: its files, as preparation placed them. Weights that are drawn follow from the shape and the seed."""
        raw = json.loads((directory / "config.json").read_text())
        shape = {key: value for key, value in _with_defaults(raw).items() if key not in IGNORED}
        drawn = model.config is not None or model.init == "random"
        return cls(shape=shape, weights=digest("drawn", seed, shape, raw.get("initializer_range")) if drawn else _fingerprint(directory))


def _with_defaults(config: dict[str, Any]) -> dict[str, Any]:
    from transformers import AutoConfig

    try:
        whole = AutoConfig.for_model(**config).to_dict()
    except Exception:  # a family that transformers does not know: as it stands, then
        whole = config
    found: dict[str, Any] = json.loads(json.dumps(whole, default=str))
    return found


def _fingerprint(directory: Path) -> str:
    """Of all tensors by name, dtype, shape and a sample of their bytes: the same however they are spread over files."""
    found = sorted(line for path in directory.glob("*.safetensors") for line in _tensors(path))
    return digest("safetensors", found)


def _tensors(path: Path) -> Iterator[tuple[str, str, list[int], str]]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        for name, told in header.items():
            if name != "__metadata__":
                start, end = told["data_offsets"]
                yield name, told["dtype"], told["shape"], _sampled(file, 8 + length + start, end - start)


def _sampled(file: BinaryIO, start: int, size: int) -> str:
    hasher = hashlib.sha256()
    blocks = [0] if size <= _BLOCK else [index * (size - _BLOCK) // (_BLOCKS - 1) for index in range(_BLOCKS)]
    for offset in blocks:
        file.seek(start + offset)
        hasher.update(file.read(min(size, _BLOCK)))
    return hasher.hexdigest()
