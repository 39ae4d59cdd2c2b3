"""Pretraining: documents joined by the end token into one stream and split into rows. The loss covers every token."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from llmtrain_trainer.config.training import Training
from llmtrain_trainer.data.columns import Ints
from llmtrain_trainer.data.formats.encoding import Encoded
from llmtrain_trainer.data.rows import Appender, SetStats, count_tokens


class StreamWriter:
    """Fills a directory of the form `stream`. The encoder has put the end token after each document."""

    def __init__(self, directory: Path, training: Training) -> None:
        self._directory, self._length = directory, training.sequence_length
        self._tokens = Appender(directory / "tokens.npy")
        self._documents = self._dropped = 0
        self._found: Counter[str] = Counter()
        self._ends: Counter[int] = Counter()
        self._counts: Ints = np.zeros(0, dtype=np.int64)

    def add(self, documents: Iterable[Encoded]) -> None:
        kept = [document.ids for document in documents if self._keep(document)]
        if kept:
            ids = np.concatenate(kept)
            self._tokens.append(ids)
            self._counts = count_tokens(self._counts, ids)

    def finish(self) -> SetStats:
        """The last label of a row is the first token of the next, so n tokens make (n - 1) // length rows; the rest is left out."""
        self._tokens.close()
        tokens = self._tokens.length
        rows = max(0, tokens - 1) // self._length
        stats = SetStats(
            form="stream",
            rows=rows,
            length=self._length,
            tokens=tokens,
            targets=rows * self._length,
            documents=self._documents,
            dropped=self._dropped,
            ends=tuple(token for token, _ in self._ends.most_common()),
            found=dict(self._found),
        )
        return stats.save(self._directory, self._counts)

    def _keep(self, document: Encoded) -> bool:
        keep = document.said > 0
        self._found.update(document.found)
        self._documents += keep
        self._dropped += not keep
        if keep and document.ends is not None:
            self._ends[document.ends] += 1
        return keep
