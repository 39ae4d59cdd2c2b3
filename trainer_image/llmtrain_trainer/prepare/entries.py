"""Datasets of a job with their files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path

from llmtrain_trainer.config.dataset import Dataset
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.blame import blamed_on
from llmtrain_trainer.data.formats.rendering import plain_texts
from llmtrain_trainer.data.sources.contents import content_of, unchanged
from llmtrain_trainer.data.sources.dataset import dataset_files, read_rows
from llmtrain_trainer.data.sources.files import DataFile
from llmtrain_trainer.data.sources.listing import Told
from llmtrain_trainer.data.sources.readers import ROWS, Row
from llmtrain_trainer.data.sources.reading import Reading

FEWEST_HELD = 20
"""Whole text files are held out if the share comes to at least this many."""


@dataclass(frozen=True)
class DatasetEntry:
    """A dataset entry with its files."""

    field: str
    """Path in the manifest: dataset[0]."""

    dataset: Dataset
    files: Sequence[DataFile]

    def identity(self, cache: Path) -> list[object]:
        """Digest of its content. Files of a streaming dataset are not read for it, so theirs also changes with location and time."""
        what = {"format", "columns", "csv", "max_samples", "bad_rows", "split", "field", "where", "template", "clean", "no_answer"}
        kept = self.dataset.model_dump(include=what, exclude_defaults=True)
        if self.dataset.streaming:
            return [kept, [file.identity for file in self.files]]
        return [kept, [(file.kind, file.packing, content_of(f"{self.field}.source", file, cache)) for file in self.files]]

    def unchanged(self) -> None:
        """Raises Changed if a file is no longer the one that was listed."""
        for file in self.files:
            unchanged(f"{self.field}.source", file)

    def holds_tails_back(self, split: float) -> bool:
        """Whether validation gets the end of each text instead of whole texts: a share of a few long texts may be none."""
        texts = self.dataset.format == "text" and all(file.kind not in ROWS for file in self.files)
        return texts and 0 < split * len(self.files) < FEWEST_HELD


def listed(field: str, datasets: Sequence[Dataset], told: Told) -> list[DatasetEntry]:
    """The datasets, each with its files. Raises BadData, Unreachable."""
    fields = [f"{field}[{i}]" for i in range(len(datasets))]
    return [DatasetEntry(name, dataset, dataset_files(name, dataset, told)) for name, dataset in zip(fields, datasets, strict=True)]


def tail_of(row: Row, column: str, share: float) -> tuple[Row, Row]:
    """A text in two parts, split at a line end so that the second has about `share` of its characters."""
    text: str = row.values[column]
    wanted = len(text) - round(len(text) * share)
    cut = text.rfind("\n", 0, wanted) + 1 or text.rfind(" ", 0, wanted) + 1 or wanted
    return Row(row.place, {column: text[:cut]}), Row(row.place, {column: text[cut:]})


def texts(entries: Sequence[DatasetEntry], most: int | None) -> Iterator[str]:
    """Texts of all datasets in turns, so that a limit omits no dataset."""
    documents = (some for each in zip_longest(*map(_texts_of, entries)) for some in each if some is not None)
    return (text for some in islice(documents, most) for text in some)


def _texts_of(entry: DatasetEntry) -> Iterator[list[str]]:
    reading = Reading()
    for row in read_rows(entry.field, entry.dataset, entry.files, reading):
        try:
            with blamed_on(f"{entry.field}.source", row.place, "its text cannot be read", "Correct the row, or leave it out"):
                found = plain_texts(entry.field, entry.dataset, row)
        except BadData as error:
            reading.skip(entry.dataset, error)
        else:
            yield found
    reading.check_bad(entry.field, entry.dataset)
