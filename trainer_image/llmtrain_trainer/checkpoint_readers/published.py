"""A checkpoint reader under the names of published files, which hold MoE experts as separate tensors."""

from __future__ import annotations

from functools import lru_cache

import torch

from llmtrain_trainer.checkpoint_readers.reader import CheckpointReader
from llmtrain_trainer.model.published_names import split


class PublishedWeights:
    """One key of a CheckpointReader: weights, or a moment of theirs."""

    def __init__(self, source: CheckpointReader, model_type: str, key: str) -> None:
        self._places = {part: (name, at) for name, shape in source.shapes.items() for part, at in split(model_type, name, shape)}
        self._read = lru_cache(maxsize=1)(lambda name: source.read(name, key))  # all experts of a layer are one weight of transformers'

    def read(self, name: str) -> torch.Tensor:
        """One published tensor, in fp32 on the CPU; of a fused MoE weight the matrix of one expert."""
        weight, index = self._places[name]
        found: torch.Tensor = self._read(weight)[index]
        return found
