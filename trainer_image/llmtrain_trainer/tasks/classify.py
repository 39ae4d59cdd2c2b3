"""Classification: one row a document, with its label at its last token."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llmtrain_trainer.config.training import Training
from llmtrain_trainer.data.columns import NO_TARGET, Ints
from llmtrain_trainer.data.formats.encoding import Encoded, Labelled
from llmtrain_trainer.data.rows import Appender, SetStats, count_tokens


class ClassifyWriter:
    """Fills a directory of the form `table`. Its counts.npy counts labels."""

    def __init__(self, directory: Path, training: Training) -> None:
        self._directory, self._length = directory, training.sequence_length
        self._ids, self._labels, self._positions = (
            Appender(directory / f"{name}.npy", self._length) for name in ("input_ids", "labels", "position_ids")
        )
        self._counts: Ints = np.zeros(0, dtype=np.int64)
        self._found: Counter[str] = Counter()
        self._tokens = self._dropped = self._cut = self._longest = 0

    def add(self, documents: Iterable[Encoded]) -> None:
        """Append the documents that have text and a label; the others are counted as dropped."""
        for document in documents:
            self._found.update(document.found)
            if document.said and document.labelled is not None:
                self._add(document.ids, document.labelled)
            else:
                self._dropped += 1

    def finish(self) -> SetStats:
        """Write one target for each row, and the counts; returns them."""
        rows = self._ids.length
        for column in (self._ids, self._labels, self._positions):
            column.close()
        with Appender(self._directory / "targets.npy") as targets:
            targets.append(np.ones(rows, dtype=np.int32))
        stats = SetStats(
            form="table",
            rows=rows,
            length=self._length,
            tokens=self._tokens,
            targets=rows,
            documents=rows,
            dropped=self._dropped,
            truncated=self._cut,
            answers_cut=self._cut,
            longest=self._longest,
            found={kind: count for kind, count in sorted(self._found.items()) if count},
        )
        return stats.save(self._directory, self._counts)

    def _add(self, ids: NDArray[np.int32], labelled: Labelled) -> None:
        kept = cut(ids, self._length, labelled.suffix)
        row, labels = np.zeros(self._length, np.int32), np.full(self._length, NO_TARGET, np.int32)
        row[: len(kept)] = kept
        labels[last_token(kept, labelled.pad)] = labelled.label
        self._ids.append(row[None])
        self._labels.append(labels[None])
        self._positions.append(np.arange(self._length, dtype=np.int32)[None])
        self._counts = count_tokens(self._counts, np.array([labelled.label], dtype=np.int32))
        self._tokens += len(kept)
        self._cut += len(kept) < len(ids)
        self._longest = max(self._longest, len(ids))


def cut(ids: NDArray[np.int32], length: int, suffix: int) -> NDArray[np.int32]:
    """ids: [n] -> at most `length` of them: the end of the text is left out, and the `suffix` tokens behind it stay."""
    return ids if len(ids) <= length else np.concatenate([ids[: length - suffix], ids[len(ids) - suffix :]])


def last_token(ids: NDArray[np.int32], pad: int) -> int:
    """Where in ids [n] transformers reads the label: at the last that is not `pad`, at 0 where all are."""
    others = np.flatnonzero(ids != pad)
    return int(others[-1]) if len(others) else 0
