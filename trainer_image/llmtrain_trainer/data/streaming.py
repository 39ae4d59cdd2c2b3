"""Streaming datasets: tokenised in numbered chunks ahead of the ranks, each an ordinary directory of rows.

A chunk is so many documents in the order of the source, whoever writes it and whenever, so the stream stays a function of the seed and
what was consumed. Chunks are kept: a second epoch or a resume reads them again. Preparation writes the first one, the agent runs
`stream_chunks` in a process for the others, ranks read through `Chunks` and wait for what is not there yet.

<stream>/chunk-00000/ ...   end.json {"chunks": n} once the source is read to its end
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Set
from functools import cache, partial
from itertools import zip_longest
from pathlib import Path

import numpy as np

from llmtrain_trainer.config.dataset import Dataset
from llmtrain_trainer.config.trainer import TrainerConfig
from llmtrain_trainer.data.bad_data import BadData, Interrupted
from llmtrain_trainer.data.cache import build_once, is_whole
from llmtrain_trainer.data.encoding import load_tokenizer
from llmtrain_trainer.data.listing import Told, untold
from llmtrain_trainer.data.order import permute
from llmtrain_trainer.data.reading import Reading
from llmtrain_trainer.data.row_encoder import RowEncoder
from llmtrain_trainer.data.rows import Ints, Rows, open_rows, read_stats
from llmtrain_trainer.data.sources import Row, dataset_files, in_batches, read_rows
from llmtrain_trainer.data.told import by_kind
from llmtrain_trainer.notices import tell
from llmtrain_trainer.run_dir import RunDir, write_atomically
from llmtrain_trainer.tasks import rows_writer

CHUNK_CHARACTERS = 8_000_000
"""Text of one chunk: some two million tokens, a few seconds of work."""

CHUNK_DOCUMENTS = 1 << 16
FAILED = "stream-failed.json"
"""In run.prepared: why no more chunks will come."""


def chunk_name(number: int) -> str:
    return f"chunk-{number:05d}"


def write_chunks(
    field: str, dataset: Dataset, config: TrainerConfig, directory: Path, tokenizer: Path, told: Told = untold
) -> Iterator[int]:
    """Write the chunks of one dataset one by one, yielding the number of each; those that are whole already are passed over.

    `told` takes what reading comes across, each kind of it once.
    """

    @cache
    def encoder() -> RowEncoder:
        return RowEncoder(field, dataset, load_tokenizer(tokenizer))

    def build(rows: list[Row], draft: Path) -> None:
        writer = rows_writer(config.task, draft, config.training)
        writer.add(encoder()(rows))
        writer.finish()

    number = -1
    reading, known = Reading(), set[str]()
    rows = read_rows(field, dataset, dataset_files(field, dataset), reading)
    for number, batch in enumerate(in_batches(rows, CHUNK_CHARACTERS, CHUNK_DOCUMENTS)):
        build_once(directory / chunk_name(number), lambda draft, batch=batch: build(batch, draft))  # type: ignore[misc]
        for kind, sentence in reading.by_kind(field).items():
            if kind not in known:
                told(f"{sentence} Later ones are not counted: the dataset is streamed.")
                known.add(kind)
        yield number
    write_atomically(directory / "end.json", json.dumps({"chunks": number + 1}))


def stream_chunks(config: TrainerConfig, run: RunDir, say: Callable[[str], None], stop: threading.Event) -> None:
    """Write what is left of every streaming dataset, in turns, until all are at their end or `stop` is set.

    For the agent to run in a process after `prepare`. Of bad data the ranks that wait are told; other errors a later call may not meet.
    """
    writers = {
        i: write_chunks(f"dataset[{i}]", dataset, config, run.prepared / "train" / str(i), run.prepared / "tokenizer", partial(tell, run))
        for i, dataset in enumerate(config.dataset)
        if dataset.streaming and not (run.prepared / "train" / str(i) / "end.json").exists()
    }
    known: dict[int, set[str]] = {i: set() for i in writers}
    try:
        for numbers in zip_longest(*writers.values()):
            if stop.is_set():
                return
            for i, number in zip(writers, numbers, strict=True):
                if number is not None:
                    known[i] |= _tell_new(run, i, number, known[i])
            say(f"streaming: chunk {max(n for n in numbers if n is not None) + 1} is ready")
    except BadData as error:
        reason = {"field": error.field, "value": error.value, "rule": error.rule, "way_out": error.way_out}
        write_atomically(run.prepared / FAILED, json.dumps(reason))
        raise


def _tell_new(run: RunDir, dataset: int, number: int, known: Set[str]) -> set[str]:
    """Tell of what no earlier chunk had, and return its kinds; preparation has told of the first chunk."""
    stats = read_stats(run.prepared / "train" / str(dataset) / chunk_name(number))
    new = {kind: sentence for kind, sentence in by_kind(f"dataset[{dataset}]", stats) if kind not in known}
    if number > 0:
        for sentence in new.values():
            tell(run, f"{sentence} (in chunk {number + 1}, the first one where it is so)")
    return set(new)


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

    def take(self, rows: Ints) -> tuple[Ints, Ints, Ints]:
        taken = [self._chunks[chunk].take(np.array([local])) for chunk, local in map(self._locate, rows.tolist())]
        inputs, labels, positions = (np.concatenate(column) for column in zip(*taken, strict=True))
        return inputs, labels, positions

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
