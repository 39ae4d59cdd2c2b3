"""Which part of a document fits into a row, and counts of truncated documents."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmtrain_trainer.data.formats.encoding import Encoded
from llmtrain_trainer.data.rows import SetStats

PROMPT_SHARE = 0.25
"""The part of a row that a long prompt keeps if the answer alone would fill the row."""

ALLOWED = 0.5
"""The share of cut prompts that SetStats.fitting is about: the default of dataset.maxCut."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Positions that are kept: the half-open ranges [0, head) and [start, stop)."""

    head: int
    start: int
    stop: int
    prompt: bool
    """Whether the beginning of the prompt is truncated."""

    answer: bool
    """Whether targets are truncated."""

    needs: int
    """The row length with which the first answer would fit without truncation."""


def fit(loss_mask: NDArray[np.bool_], length: int, keep: int = 0, reserve: int | None = None) -> Cut | None:
    """What to keep of a document; None where nothing is learned. `loss_mask` [tokens]: whether the label of each position counts.

    A document that is too long ends at the row's end if its first answer fits. Else its prompt is cut from the left, so that the first
    answer has room: all of it, or all but PROMPT_SHARE of the row; where `reserve` is given, all of it or so many tokens. The first `keep`
    positions, a begin token, stay.
    """
    places = np.flatnonzero(loss_mask)
    if not len(places):
        return None
    total, first = len(loss_mask), int(places[0])
    gaps = np.flatnonzero(np.diff(places) > 1)
    end = int(places[gaps[0]] if len(gaps) else places[-1]) + 1
    head = min(keep, first)
    prompt = first
    if end > length:
        least = math.floor(length * PROMPT_SHARE) if reserve is None else length - min(reserve, length - 1)
        prompt = max(min(first, length - (end - first)), min(first, least))
    head = min(head, prompt) if prompt < first else 0
    start = first - prompt + head if prompt < first else 0
    stop = min(total, start + length - head)
    return Cut(head, start, stop, prompt=start > head, answer=bool(loss_mask[stop:].any()), needs=end)


class Tally:
    """Counts the documents that a writer kept, truncated and dropped."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._tokens = self._targets = self._documents = self._dropped = 0
        self._truncated = self._prompts = self._answers = 0
        self._needs: list[int] = []
        self._longest = 0
        self._ends: Counter[int] = Counter()
        self._found: Counter[str] = Counter()

    def left_out(self, document: Encoded) -> None:
        self._dropped += 1
        self._found.update(document.found)

    def too_long(self) -> None:
        """Count a document that is left out since its prompt would be cut."""
        self._found["prompt dropped"] += 1

    def kept(self, document: Encoded, cut: Cut, inputs: int, targets: int) -> None:
        """Count a document of which `inputs` tokens were kept, `targets` of them in the loss."""
        size = len(document.ids) - 1
        is_cut = inputs < size
        self._documents += 1
        self._tokens += inputs + 1
        self._targets += targets
        self._truncated += is_cut
        self._prompts += cut.prompt
        self._answers += cut.answer
        self._longest = max(self._longest, size)
        if document.conversation:
            self._needs.append(cut.needs)
        if document.ends is not None:
            self._ends[document.ends] += 1
        self._found.update(document.found)

    def stats(self, rows: int) -> SetStats:
        """The counts so far, of a set that was laid out in `rows` rows."""
        needs = sorted(self._needs)
        return SetStats(
            form="table",
            rows=rows,
            length=self._length,
            tokens=self._tokens,
            targets=self._targets,
            documents=self._documents,
            dropped=self._dropped,
            truncated=self._truncated,
            prompts_cut=self._prompts,
            answers_cut=self._answers,
            conversations=len(needs),
            longest=self._longest,
            fitting=(needs[max(0, math.ceil(len(needs) * (1 - ALLOWED)) - 1)], needs[-1]) if needs else (0, 0),
            ends=tuple(token for token, _ in self._ends.most_common()),
            found={kind: count for kind, count in sorted(self._found.items()) if count},
        )
