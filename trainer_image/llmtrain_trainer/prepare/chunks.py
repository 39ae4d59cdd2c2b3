"""Writes the chunks of streaming datasets: preparation the first one, a process of the agent the others."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Set
from functools import cache, partial
from itertools import zip_longest
from pathlib import Path

from llmtrain_trainer.config.dataset import Dataset
from llmtrain_trainer.config.trainer import TrainerConfig
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.cache import build_once
from llmtrain_trainer.data.chunks import FAILED, chunk_name
from llmtrain_trainer.data.formats.encoding import load_tokenizer
from llmtrain_trainer.data.formats.row_encoder import RowEncoder
from llmtrain_trainer.data.rows import read_stats
from llmtrain_trainer.data.sources.dataset import Row, dataset_files, in_batches, read_rows
from llmtrain_trainer.data.sources.listing import Told, untold
from llmtrain_trainer.data.sources.reading import Reading
from llmtrain_trainer.prepare.told import by_kind
from llmtrain_trainer.run_dir.layout import RunDir, write_atomically
from llmtrain_trainer.run_dir.notices import tell
from llmtrain_trainer.tasks import rows_writer

CHUNK_CHARACTERS = 8_000_000
"""Characters of one chunk: about two million tokens, a few seconds of work."""

CHUNK_DOCUMENTS = 1 << 16


def write_chunks(
    field: str, dataset: Dataset, config: TrainerConfig, directory: Path, tokenizer: Path, told: Told = untold
) -> Iterator[int]:
    """Write the chunks of one dataset one by one, yielding the number of each; chunks that are complete already are skipped.

    `told` receives the notices of reading, each kind once.
    """

    reading = Reading()

    @cache
    def encoder() -> RowEncoder:
        return RowEncoder(field, dataset, load_tokenizer(tokenizer), config, reading)

    def build(rows: list[Row], draft: Path) -> None:
        writer = rows_writer(config.task, draft, config.training, dataset.truncate)
        writer.add(encoder()(rows))
        writer.finish()

    number, known = -1, set[str]()
    rows = read_rows(field, dataset, dataset_files(field, dataset), reading)
    for number, batch in enumerate(in_batches(rows, CHUNK_CHARACTERS, CHUNK_DOCUMENTS)):
        build_once(directory / chunk_name(number), lambda draft, batch=batch: build(batch, draft), told, read_stats)  # type: ignore[misc]
        reading.check_bad(field, dataset)
        if number == 0:
            reading.check_columns(field, dataset)
        for kind, sentence in reading.by_kind(field).items():
            if kind not in known:
                told(f"{sentence} Later ones are not counted: the dataset is streamed.")
                known.add(kind)
        yield number
    write_atomically(directory / "end.json", json.dumps({"chunks": number + 1}))


def stream_chunks(config: TrainerConfig, run: RunDir, say: Callable[[str], None], stop: threading.Event) -> None:
    """Write the remaining chunks of every streaming dataset, in turns, until all are at their end or `stop` is set.

    The agent runs it in a process after `prepare`. Bad data is reported to the waiting ranks; another error may not recur in a later call.
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
    """Write the notices that no earlier chunk caused, and return their kinds; preparation wrote those of the first chunk."""
    stats = read_stats(run.prepared / "train" / str(dataset) / chunk_name(number))
    new = {kind: sentence for kind, sentence in by_kind(f"dataset[{dataset}]", stats) if kind not in known}
    if number > 0:
        for sentence in new.values():
            tell(run, f"{sentence} (in chunk {number + 1}, the first one where it is so)")
    return set(new)
