"""Rows to token ids and targets, in batches that the tokenizer works on with all cores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmtrain_trainer.config.dataset import Dataset
from llmtrain_trainer.data.formats.control_tokens import ControlTokens
from llmtrain_trainer.data.formats.rendering import Rendered, Renderer
from llmtrain_trainer.data.sources.dataset import Row

LONGEST_PIECE = 1 << 20
"""Characters that are tokenised at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """A label, and what has to be known of a document to say where it stands."""

    label: int
    suffix: int
    """Tokens that the tokenizer puts behind every text."""

    pad: int
    """The token with which the exported model fills up rows: it reads the label at the last token that is another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """One document: int32 ids [n] and bool loss_mask [n], true where the token is to be predicted."""

    ids: NDArray[np.int32]
    loss_mask: NDArray[np.bool_]
    said: int
    """Tokens of the document itself, without those put before and after it."""

    conversation: bool = False
    """Whether some of it is a prompt that is not learned."""

    bos: bool = False
    """Whether it starts with the begin token."""

    ends: int | None = None
    """The token that its answers end in, where that is one."""

    labelled: Labelled | None = None
    """The label of the whole document, where the task learns labels."""

    found: Mapping[str, int] = field(default_factory=dict)
    """What a person should know, as kinds of prepare/told.py."""


class Encoder:
    """Renders and tokenises rows of one dataset."""

    def __init__(self, field: str, dataset: Dataset, tokenizer: Any, labels: Sequence[str] = ()) -> None:
        """`labels`: as Renderer takes them."""
        self._control = ControlTokens(tokenizer)
        self._render = Renderer(field, dataset, tokenizer, self._control, labels)
        self._backend = tokenizer.backend_tokenizer
        self._backend.no_truncation()
        self._backend.no_padding()
        self._eos: int = tokenizer.eos_token_id
        self._bos: int | None = tokenizer.bos_token_id
        self._pad: int = self._eos if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        self._habit, self._around = has_habitual_bos(tokenizer), around(tokenizer) if labels else ((), ())

    def __call__(self, rows: Sequence[Row]) -> list[Encoded]:
        """One result a row."""
        rendered = [self._render(row) for row in rows]
        pieces = [[item.text] if item.answers is not None else in_pieces(item.text) for item in rendered]
        ordinary = self._encodings([some for item, some in zip(rendered, pieces, strict=True) if not item.guarded], rendered)
        guarded = self._control_encodings([some for item, some in zip(rendered, pieces, strict=True) if item.guarded])
        return [self._encoded(item, next(guarded if item.guarded else ordinary)) for item in rendered]

    def _encodings(self, pieces: Sequence[Sequence[str]], rendered: Sequence[Rendered]) -> Iterator[list[Any]]:
        needs_offsets = any(item.answers is not None for item in rendered)
        encode = self._backend.encode_batch if needs_offsets else self._backend.encode_batch_fast
        encodings = iter(encode([piece for some in pieces for piece in some], add_special_tokens=False))
        return ([next(encodings) for _ in some] for some in pieces)

    def _control_encodings(self, pieces: Sequence[Sequence[str]]) -> Iterator[list[Any]]:
        """With the copy of the tokenizer, which is made where a row needs it."""
        encodings = iter(self._control.encode([piece for some in pieces for piece in some]) if pieces else ())
        return ([next(encodings) for _ in some] for some in pieces)

    def _encoded(self, item: Rendered, encodings: Sequence[Any]) -> Encoded:
        ids = np.array([number for encoding in encodings for number in encoding.ids], dtype=np.int32)
        ids = self._control.original(ids) if item.guarded else ids
        if item.label is not None:
            return self._with_label(item, ids, item.label)
        loss_mask = _loss_mask(item.answers, encodings[0]) if item.answers is not None else np.ones(len(ids), dtype=np.bool_)
        within = _within_tokens(item.answers or (), encodings[0])
        across = sum(self._reads_otherwise(item.text[:start], ids, item.guarded) for start in within)
        found = {**item.found, **({"token across": across} if across else {})}
        said, ends = len(ids), int(ids[-1]) if len(ids) and not item.eos else None
        starts = bool(len(ids)) and ids[0] == self._bos
        if item.bos and self._habit and self._bos is not None and not starts:
            ids, loss_mask, starts = np.insert(ids, 0, np.int32(self._bos)), np.insert(loss_mask, 0, False), True
        if item.eos:
            ids, loss_mask, ends = np.append(ids, np.int32(self._eos)), np.append(loss_mask, True), self._eos
        return Encoded(ids=ids, loss_mask=loss_mask, said=said, conversation=item.answers is not None, bos=starts, ends=ends, found=found)

    def _with_label(self, item: Rendered, ids: NDArray[np.int32], label: int) -> Encoded:
        """With what the tokenizer puts around every text, since the exported model is given texts as the tokenizer makes them."""
        before, behind = self._around
        whole = np.array([*before, *ids.tolist(), *behind], dtype=np.int32)
        nothing = np.zeros(len(whole), dtype=np.bool_)
        labelled = Labelled(label=label, suffix=len(behind), pad=self._pad)
        return Encoded(ids=whole, loss_mask=nothing, said=len(ids), labelled=labelled, found=item.found)

    def _reads_otherwise(self, prompt: str, ids: NDArray[np.int32], guarded: bool) -> bool:
        """Whether a prompt alone is made into other tokens than with its answer behind it, whose ids are `ids`."""
        (encoding,) = self._control.encode([prompt]) if guarded else self._backend.encode_batch([prompt], add_special_tokens=False)
        alone = np.array(encoding.ids, dtype=np.int32)
        return not np.array_equal(self._control.original(alone) if guarded else alone, ids[: len(alone)])


def in_pieces(text: str) -> list[str]:
    """A long text cut after line ends, where there are some: the tokenizer needs some hundred bytes of memory a character."""
    pieces, start = [], 0
    while len(text) - start > LONGEST_PIECE:
        stop = text.rfind("\n", start, start + LONGEST_PIECE) + 1 or start + LONGEST_PIECE
        pieces.append(text[start:stop])
        start = stop
    return [*pieces, text[start:]]


def _within_tokens(answers: Sequence[tuple[int, int]], encoding: Any) -> list[int]:
    """Where answers start and no token ends: there may be one that begins in the prompt."""
    ends = {end for _, end in encoding.offsets} if answers else set()
    return [start for start, _ in answers if start and start not in ends]


def _loss_mask(answers: Sequence[tuple[int, int]], encoding: Any) -> NDArray[np.bool_]:
    """A token that begins before an answer and ends in it belongs to the answer: the prompt alone would not have made it."""
    offsets = np.asarray(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    loss_mask = np.zeros(len(offsets), dtype=np.bool_)
    for start, end in answers:
        loss_mask |= (offsets[:, 1] > start) & (offsets[:, 0] < end)
    return loss_mask


def has_habitual_bos(tokenizer: Any) -> bool:
    """Whether this tokenizer puts its begin token before every text by itself."""
    ids = tokenizer("a")["input_ids"]
    return bool(ids) and tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id


def around(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The tokens that this tokenizer puts before and behind every text by itself."""
    whole: list[int] = tokenizer("a")["input_ids"]
    text: list[int] = tokenizer("a", add_special_tokens=False)["input_ids"]
    at = next((at for at in range(len(whole) - len(text) + 1) if whole[at : at + len(text)] == text), None)
    return ((), ()) if at is None else (tuple(whole[:at]), tuple(whole[at + len(text) :]))


def load_tokenizer(directory: Path) -> Any:
    """A PreTrainedTokenizerFast from a directory with tokenizer.json."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(directory)
