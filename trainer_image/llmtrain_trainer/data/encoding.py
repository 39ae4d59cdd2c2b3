"""Rows to token ids and targets, in batches that the tokenizer works on with all cores. Called by preparation and streaming."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmtrain_trainer.config.dataset import Dataset
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.formats import Rendered, renderer
from llmtrain_trainer.data.sources import Row

LONGEST_PIECE = 1 << 20
"""Characters that are tokenised at once."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One document: int32 ids [n] and bool learned [n], true where the token is to be predicted."""

    ids: NDArray[np.int32]
    learned: NDArray[np.bool_]


class Encoder:
    """Renders and tokenises rows of one dataset."""

    def __init__(self, field: str, dataset: Dataset, tokenizer: Any) -> None:
        if tokenizer.eos_token_id is None:
            raise BadData("tokenizer", tokenizer.name_or_path, "it has no end token (eos_token)", "Name one in its tokenizer_config.json")
        self._render = renderer(field, dataset, tokenizer)
        self._backend = tokenizer.backend_tokenizer
        self._eos: int = tokenizer.eos_token_id
        self._bos: int | None = _habitual_bos(tokenizer)

    def __call__(self, rows: Sequence[Row]) -> list[Encoded]:
        """One result a row."""
        rendered = [self._render(row) for row in rows]
        pieces = [[item.text] if item.answers is not None else in_pieces(item.text) for item in rendered]
        needs_offsets = any(item.answers is not None for item in rendered)
        encode = self._backend.encode_batch if needs_offsets else self._backend.encode_batch_fast
        encodings = iter(encode([piece for some in pieces for piece in some], add_special_tokens=False))
        return [self._encoded(item, [next(encodings) for _ in some]) for item, some in zip(rendered, pieces, strict=True)]

    def _encoded(self, item: Rendered, encodings: Sequence[Any]) -> Encoded:
        ids = np.array([number for encoding in encodings for number in encoding.ids], dtype=np.int32)
        learned = _learned(item.answers, encodings[0]) if item.answers is not None else np.ones(len(ids), dtype=np.bool_)
        if item.bos and self._bos is not None:
            ids, learned = np.insert(ids, 0, self._bos), np.insert(learned, 0, False)
        if item.eos:
            ids, learned = np.append(ids, np.int32(self._eos)), np.append(learned, True)
        return Encoded(ids, learned)


def in_pieces(text: str) -> list[str]:
    """A long text cut after line ends, where there are some: the tokenizer needs some hundred bytes of memory a character."""
    pieces, start = [], 0
    while len(text) - start > LONGEST_PIECE:
        stop = text.rfind("\n", start, start + LONGEST_PIECE) + 1 or start + LONGEST_PIECE
        pieces.append(text[start:stop])
        start = stop
    return [*pieces, text[start:]]


def _learned(answers: Sequence[tuple[int, int]], encoding: Any) -> NDArray[np.bool_]:
    """A token that begins before an answer and ends in it belongs to the answer: the prompt alone would not have made it."""
    offsets = np.asarray(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    learned = np.zeros(len(offsets), dtype=np.bool_)
    for start, end in answers:
        learned |= (offsets[:, 1] > start) & (offsets[:, 0] < end)
    return learned


def _habitual_bos(tokenizer: Any) -> int | None:
    """The begin token if this tokenizer puts it before every text by itself."""
    ids = tokenizer("a")["input_ids"]
    return tokenizer.bos_token_id if ids and ids[0] == tokenizer.bos_token_id else None


def load_tokenizer(directory: Path) -> Any:
    """A PreTrainedTokenizerFast from a directory with tokenizer.json."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(directory)
