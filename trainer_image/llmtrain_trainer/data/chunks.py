"""Streaming datasets: tokenised in numbered chunks ahead of the ranks, each an ordinary directory of rows.

A chunk is so many documents in the order of the source, whoever writes it and whenever, so the stream stays a function of the seed and
what was consumed. Chunks are kept: a second epoch or a resume reads them again. `prepare.chunks` writes them; ranks read through `Chunks`
and wait for what is not there yet.

<stream>/chunk-00000/ ...   end.json {"chunks": n} once the source is read to its end
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np

from llmtrain_trainer.data.bad_data import BadData, Interrupted
from llmtrain_trainer.data.cache import is_whole
from llmtrain_trainer.data.columns import Columns, Ints
from llmtrain_trainer.data.mixing.order import permute
from llmtrain_trainer.data.rows import Rows, open_rows

FAILED = "stream-failed.json"
"""In run.prepared: why no more chunks will come."""


def chunk_name(number: int) -> str:
    return f"chunk-{number:05d}"


class Chunks:
    """A streaming dataset as ranks see it. Rows are numbered through all chunks; each chunk is shuffled in itself."""

    def __init__(self, directory: Path, failed: Path, seed: int, dataset: int) -> None:
        self._directory, self._failed, self._key = directory, failed, (seed, dataset)
        self._chunks: list[Rows] = []
        self._starts = [0]
        self._ended = False

    def rows_of(self, ordinals: Ints) -> Ints:
        """Rows of the samples with these ordinals; waits until their chunks are written."""
        while not self._ended and ordinals.max() >= self._starts[-1]:
            self._wait_for_next()
        total = self._starts[-1]
        rows = np.empty_like(ordinals)
        for at, ordinal in enumerate(ordinals.tolist()):
            epoch, within = divmod(ordinal, total) if self._ended else (0, ordinal)
            chunk, local = self._locate(within)
            size = len(self._chunks[chunk])
            rows[at] = self._starts[chunk] + permute(np.array([local]), size, (*self._key, epoch, chunk))[0]
        return rows

    def take(self, rows: Ints) -> Columns:
        taken = [self._chunks[chunk].take(np.array([local])) for chunk, local in map(self._locate, rows.tolist())]
        return {column: np.concatenate([one[column] for one in taken]) for column in taken[0]}

    def targets(self, rows: Ints) -> Ints:
        return np.concatenate([self._chunks[chunk].targets(np.array([local])) for chunk, local in map(self._locate, rows.tolist())])

    def _locate(self, row: int) -> tuple[int, int]:
        chunk = int(np.searchsorted(self._starts, row, side="right")) - 1
        return chunk, row - self._starts[chunk]

    def _wait_for_next(self) -> None:
        directory = self._directory / chunk_name(len(self._chunks))
        while not is_whole(directory):
            if self._is_end():
                return
            if self._failed.exists():
                raise _failure(json.loads(self._failed.read_text()))
            time.sleep(0.05)
        rows = open_rows(directory)
        self._chunks.append(rows)
        self._starts.append(self._starts[-1] + len(rows))

    def _is_end(self) -> bool:
        end = self._directory / "end.json"
        self._ended = end.exists() and json.loads(end.read_text())["chunks"] == len(self._chunks)
        return self._ended


def _failure(reason: dict[str, str]) -> Exception:
    """What stands in FAILED: the parts of a BadData, or the message of another end."""
    return Interrupted(reason["message"]) if "message" in reason else BadData(**reason)
