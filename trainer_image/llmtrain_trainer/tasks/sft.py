"""Supervised fine-tuning: one sample per document, loss on its answers; with packing, short samples share rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llmtrain_trainer.config.dataset import Truncate
from llmtrain_trainer.config.training import Training
from llmtrain_trainer.data.columns import NO_TARGET, Ints
from llmtrain_trainer.data.formats.encoding import Encoded
from llmtrain_trainer.data.packing import pack
from llmtrain_trainer.data.rows import Appender, SetStats, count_tokens
from llmtrain_trainer.data.truncation import Tally, fit

ROWS_AT_ONCE = 256
"""Rows laid out in memory before they are appended."""


class TableWriter:
    """Fills a directory of the form `table`. Samples wait in one flat draft file until all lengths are known and rows can be packed."""

    def __init__(self, directory: Path, training: Training, truncate: Truncate) -> None:
        self._directory, self._length, self._packing = directory, training.sequence_length, training.packing
        self._truncate = truncate
        self._inputs, self._labels = Appender(directory / "draft_inputs.npy"), Appender(directory / "draft_labels.npy")
        self._lengths: list[int] = []
        self._tally = Tally(training.sequence_length)
        self._counts: Ints = np.zeros(0, dtype=np.int64)

    def add(self, documents: Iterable[Encoded]) -> None:
        for document in documents:
            self._add(document)

    def _add(self, document: Encoded) -> None:
        inputs, loss_mask = document.ids[:-1], document.loss_mask[1:]
        labels = np.where(loss_mask, document.ids[1:], NO_TARGET).astype(np.int32)
        cut = fit(loss_mask, self._length, keep=int(document.bos), reserve=self._truncate.reserve) if document.said else None
        if cut is not None and cut.prompt and self._truncate.prompt == "drop":
            self._tally.too_long()
            return
        if cut is None:
            self._tally.left_out(document)
            return
        inputs, labels = (np.concatenate([some[: cut.head], some[cut.start : cut.stop]]) for some in (inputs, labels))
        answers = labels[labels != NO_TARGET]
        self._inputs.append(inputs)
        self._labels.append(labels)
        self._lengths.append(len(inputs))
        self._tally.kept(document, cut, len(inputs), len(answers))
        self._counts = count_tokens(self._counts, answers)

    def finish(self) -> SetStats:
        """Lay out the documents in rows, packed if asked for, and write the counts; returns them."""
        self._inputs.close()
        self._labels.close()
        rows = pack(self._lengths, self._length) if self._packing else [[i] for i in range(len(self._lengths))]
        self._lay_out(rows)
        for name in ("draft_inputs.npy", "draft_labels.npy"):
            (self._directory / name).unlink()
        return self._tally.stats(len(rows)).save(self._directory, self._counts)

    def _lay_out(self, rows: Sequence[Sequence[int]]) -> None:
        inputs, labels = (np.load(self._directory / f"draft_{name}.npy", mmap_mode="r") for name in ("inputs", "labels"))
        starts = np.concatenate([[0], np.cumsum(self._lengths, dtype=np.int64)])
        width = self._length
        with (
            Appender(self._directory / "input_ids.npy", width) as to_inputs,
            Appender(self._directory / "labels.npy", width) as to_labels,
            Appender(self._directory / "position_ids.npy", width) as to_positions,
            Appender(self._directory / "targets.npy") as to_targets,
        ):
            for first in range(0, len(rows), ROWS_AT_ONCE):
                some = rows[first : first + ROWS_AT_ONCE]
                block = _Block(len(some), width)
                for row, members in enumerate(some):
                    for member in members:
                        span = slice(starts[member], starts[member + 1])
                        block.place(row, inputs[span], labels[span])
                block.pad()
                to_inputs.append(block.inputs)
                to_labels.append(block.labels)
                to_positions.append(block.positions)
                to_targets.append((block.labels != NO_TARGET).sum(axis=1).astype(np.int32))


class _Block:
    """A few rows being filled from the left."""

    def __init__(self, rows: int, width: int) -> None:
        self.inputs = np.zeros((rows, width), np.int32)
        self.labels = np.full((rows, width), NO_TARGET, np.int32)
        self.positions = np.zeros((rows, width), np.int32)
        self._used = [0] * rows

    def place(self, row: int, inputs: NDArray[np.int32], labels: NDArray[np.int32]) -> None:
        start, stop = self._used[row], self._used[row] + len(inputs)
        self.inputs[row, start:stop] = inputs
        self.labels[row, start:stop] = labels
        self.positions[row, start:stop] = np.arange(len(inputs))
        self._used[row] = stop

    def pad(self) -> None:
        """Padding has positions from 0 again, like a sample of its own that no token attends to."""
        for row, used in enumerate(self._used):
            self.positions[row, used:] = np.arange(self.positions.shape[1] - used)
