"""Rows of a dataset's files, in an order that never changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from llmtrain_trainer.config.dataset import Csv, Dataset
from llmtrain_trainer.config.tables.slices import slice_of
from llmtrain_trainer.data.bad_data import BadData, Unreachable
from llmtrain_trainer.data.blame import judged
from llmtrain_trainer.data.sources.choice import CARD, data_files, of_subset
from llmtrain_trainer.data.sources.cleaning import Cleaner, said_by, whole_text
from llmtrain_trainer.data.sources.files import DataFile, UnfitFileError
from llmtrain_trainer.data.sources.listing import Told, list_files, untold
from llmtrain_trainer.data.sources.readers import READERS, ROWS, Asked, Row, reader_of
from llmtrain_trainer.data.sources.reading import Reading
from llmtrain_trainer.data.sources.row_rules import RowRules, named_columns, read_columns
from llmtrain_trainer.data.sources.squad import is_unanswered, questions_of
from llmtrain_trainer.data.sources.wanted import LISTS, MEDIA, PART_OF_PROMPT, PLAIN, optional_columns, wanted_columns

__all__ = ["Row", "dataset_files", "held_back", "in_batches", "read_rows"]

DATA_PATTERNS = tuple(f"*.{kind}{packed}" for kind in READERS for packed in ("", ".gz", ".zst"))
"""What is downloaded of a dataset repository when the source names no path in it."""

MOST_SILENT = 0.5
"""Share of rows that say nothing beyond which the column is taken for the wrong one."""


def _card(dataset: Dataset) -> tuple[str, ...]:
    """What is downloaded besides to know the files of a subset."""
    return (CARD,) if dataset.subset else ()


def dataset_files(field: str, dataset: Dataset, told: Told = untold) -> list[DataFile]:
    """Files of a dataset that hold data; of an hf:// repository those of its split."""
    files = list_files(f"{field}.source", dataset.source, repository="dataset", patterns=(*DATA_PATTERNS, *_card(dataset)), told=told)
    chosen = of_subset(field, dataset, data_files(field, dataset, files, told), files, told)
    for name, given, kinds in (("csv", dataset.csv != Csv(), ("csv", "tsv")), ("field", dataset.field is not None, ("json",))):
        if given and not any(file.kind in kinds for file in chosen):
            rule = f"no file of {dataset.source} is a {' or '.join(f'.{kind}' for kind in kinds)} file"
            way_out = f"Leave {name} out, or end the names of such files in .{kinds[0]}"
            raise BadData(f"{field}.{name}", dataset.field or "set", rule, way_out)
    table = next((file.name for file in chosen if file.kind in ROWS), None)
    if dataset.format == "lines" and table is not None:
        rule = f"{table} holds rows, not lines of text"
        raise BadData(f"{field}.format", "lines", rule, "Set format to text, or name the text files in source with a glob")
    return chosen


def read_rows(field: str, dataset: Dataset, files: Sequence[DataFile], reading: Reading | None = None) -> Iterator[Row]:
    """All rows but those that say nothing, file after file; at most dataset.max_samples. `reading` counts what a person has to know.

    A row says nothing where what is learned of it is null or empty. Raises BadData with file and row, Unreachable where a store does not
    answer.
    """
    counted = Reading() if reading is None else reading
    reader = _DatasetReader(field, dataset, counted, RowRules(field, dataset, counted), Cleaner(dataset, counted), beside=len(files) > 1)
    span, taken = reader.span(files), 0
    rows = (row for file in files if counted.found < span.stop for row in reader.rows(file, span))
    for row in islice(rows, dataset.max_samples):
        taken += 1
        yield row
    if counted.strays and counted.rows == len(counted.strays):
        yield counted.strays[0]
    if not dataset.streaming:  # the first chunk of a stream is looked at when it is written
        counted.check_columns(field, dataset)
    if taken != dataset.max_samples:
        _check_slice(field, dataset, span, counted)
    _check_silent(field, dataset, files, counted)
    if not counted.rows:
        what = "the file is empty" if len(files) == 1 else f"all {len(files)} files are empty"
        raise BadData(f"{field}.source", dataset.source, f"there is no row in it: {what}", "Name files that hold data")


def _check_slice(field: str, dataset: Dataset, span: range, counted: Reading) -> None:
    """Of a source that was read to its end. Raises BadData where the slice or `where` leaves nothing."""
    if counted.found and not counted.rows:
        rule = f"it selects none of the {counted.found} rows of {dataset.source}"
        raise BadData(f"{field}.split", dataset.split, rule, "Write a slice that begins within them")
    if counted.rows and counted.unmet == counted.rows:
        rule = f"none of {counted.rows} rows of {dataset.source} meets it"
        raise BadData(f"{field}.where", dataset.where, rule, "Correct it, or leave it out")
    if counted.unanswered and not counted.wanted:
        rule = f"none of {counted.unanswered} questions of {dataset.source} has an answer"
        way_out = f"Set {field}.noAnswer to what is learned instead, or name data with answers"
        raise BadData(f"{field}.source", dataset.source, rule, way_out)
    if counted.rows and counted.unfit == counted.rows:
        rule = f"none of {counted.rows} rows of {dataset.source} has so many characters"
        limits = dataset.clean.model_dump(exclude_defaults=True, by_alias=True)
        raise BadData(f"{field}.clean", limits, rule, "Correct minCharacters and maxCharacters, or leave them out")
    if span.start < counted.found < span.stop and slice_of(dataset.split).stop:
        counted.ends_early = dataset.split


def _check_silent(field: str, dataset: Dataset, files: Sequence[DataFile], counted: Reading) -> None:
    if counted.silent <= MOST_SILENT * counted.wanted:
        return
    if all(file.kind not in ROWS for file in files):
        rule = f"{counted.silent} of {counted.wanted} text files are empty (the first: {counted.first_silent})"
        raise BadData(f"{field}.source", dataset.source, rule, "Name files that hold text")
    columns = " and ".join(wanted_columns(dataset))
    rule = f"{columns} is null or empty in {counted.silent} of {counted.wanted} rows (the first: {counted.first_silent})"
    way_out = f"Set {field}.columns to the columns that hold the data, or leave such rows out"
    raise BadData(f"{field}.source", dataset.source, rule, way_out)


def says_nothing(dataset: Dataset, row: Row, columns: Set[str]) -> bool:
    """Whether a column is null, or the one that is learned is empty. A prompt may be empty text.

    A column that is left out is null, as it is in a file with a table, where nothing stands in its place that other rows, with `columns`,
    do not have.
    """
    wanted = wanted_columns(dataset)
    values = [row.values.get(column) for column in wanted]
    if not set(wanted) <= row.values.keys() and not row.values.keys() <= columns:
        return not row.values
    return any(value is None for value in values) or _is_empty(values[-1], ("", "[]") if dataset.format in LISTS else ("",))


def _is_empty(value: Any, texts: Sequence[str]) -> bool:
    return value == [] or (isinstance(value, str) and value.strip() in texts)


def in_batches(rows: Iterable[Row], characters: int, most: int) -> Iterator[list[Row]]:
    """Rows in lists of at most `most` rows, each closed once it holds about `characters` of text."""
    batch: list[Row] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += sum(len(value) if isinstance(value, str) else len(str(value)) for value in row.values.values())
        if size >= characters or len(batch) == most:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def held_back(dataset: Dataset, row: Row, share: float) -> bool:
    """Whether a document is for validation: decided by a hash of what it says, so neither order nor other documents matter."""
    if not share:
        return False
    said = json.dumps(said_by(dataset, row), sort_keys=True, default=str)
    return int.from_bytes(hashlib.blake2b(said.encode(), digest_size=8).digest(), "big") < share * 2**64


@dataclass(frozen=True)
class _DatasetReader:
    """One pass over the files of a dataset."""

    field: str
    dataset: Dataset
    counted: Reading
    rules: RowRules
    cleaner: Cleaner
    beside: bool
    """Whether there are several files."""

    def span(self, files: Sequence[DataFile]) -> range:
        """Which of the rows the split takes. A slice that depends on their number has them counted first."""
        part = slice_of(self.dataset.split)
        if not part.needs_count:
            return part.rows()
        first = replace(self, counted=Reading())
        return part.rows(sum(1 for file in files for _ in first._found(file)))

    def rows(self, file: DataFile, span: range) -> Iterator[Row]:
        """Rows of a file that the split takes and that say something."""
        before = self.counted.found
        for row in self._found(file):
            self.counted.found += 1
            if self.counted.found > span.stop:
                return
            if self.counted.found > span.start and (kept := self._usable(file, row)) is not None:
                yield kept
        stray = any(row.place == f"{file.uri} row 1" for row in self.counted.strays)
        self.counted.empty_files += self.counted.found == before and file.kind in ROWS and not stray

    def _usable(self, file: DataFile, row: Row) -> Row | None:
        """The row as its format reads it; None where it is passed over. Raises BadData where it ends the job."""
        counted, columns = self.counted, wanted_columns(self.dataset)
        counted.rows += 1
        try:
            if row.bad is not None:
                raise row.bad
            if not self.rules.keep(row):
                counted.unmet += 1
                return None
            row = self.rules.made(row)
        except BadData as error:
            counted.skip(self.dataset, error)
            return None
        counted.add_missing(row, columns if file.kind == "csv" else ())
        if is_unanswered(row, self.dataset):
            counted.unanswered += 1
            return None
        if says_nothing(self.dataset, row, counted.columns):
            counted.silent += 1
            counted.first_silent = counted.first_silent or row.place
            return None
        counted.columns |= row.values.keys() if set(columns) <= row.values.keys() else set()
        if not self.cleaner.keep(row):
            return None
        return whole_text(row, (*columns, *optional_columns(self.dataset)), counted)

    def _found(self, file: DataFile) -> Iterator[Row]:
        """All rows of a file as they stand there. Raises BadData with the file, and the row where there is one; Unreachable."""
        done = 0
        try:
            with file.open() as stream:
                rows = reader_of(file)(_asked(self.field, self.dataset), file, stream)
                for row in _known(self.dataset, file, rows, self.counted, beside=self.beside and not file.asked):
                    yield from questions_of(row, self.dataset) if self.dataset.format == "squad" else (row,)
                    done += 1
        except (BadData, Unreachable, MemoryError, GeneratorExit):
            raise
        except Exception as error:
            place = f"{file.uri} row {done + 1}" if done or file.kind in ROWS else file.uri
            raise _unreadable(f"{self.field}.source", place, file, error) from error


def _asked(field: str, dataset: Dataset) -> Asked:
    plain = dataset.format in PLAIN
    besides = () if plain else (*optional_columns(dataset), *MEDIA, *PART_OF_PROMPT)
    return Asked(
        field=field,
        columns=read_columns(dataset),
        where_there=(*besides, *sorted(named_columns(dataset))),
        text=dataset.columns.text if plain else None,
        format=dataset.format,
        separator=dataset.csv.separator,
        header=dataset.csv.header,
        inside=tuple(dataset.field.split(".")) if dataset.field else (),
    )


def _known(dataset: Dataset, file: DataFile, rows: Iterator[Row], counted: Reading, *, beside: bool) -> Iterator[Row]:
    """Rows of a file, but of a .json file among others that is a single object without a column that is read: it tells of the data."""
    if not beside:
        yield from rows
        return
    first = [replace(row, beside=True) for row in islice(rows, 2)]
    if len(first) == 1 and file.kind == "json" and _tells_of_data(dataset, first[0]):
        counted.rows += 1
        counted.strays.append(first[0])
        return
    yield from first
    yield from (replace(row, beside=True) for row in rows)


def _tells_of_data(dataset: Dataset, row: Row) -> bool:
    """Whether none of its columns is read and it is no wrapper around rows."""
    return (
        row.bad is None
        and not set(read_columns(dataset)) & row.values.keys()
        and not any(isinstance(value, list) and value and isinstance(value[0], dict) for value in row.values.values())
    )


def _unreadable(field: str, place: str, file: DataFile, error: Exception) -> BadData | Unreachable:
    if isinstance(error, UnfitFileError):
        return BadData(field, place, str(error), "Check the file; one that is right can be unpacked first, or be left out with a glob")
    if file.packing is not None:
        return judged(error, field, place, "it cannot be decompressed to its end", _write_again(file))
    return judged(error, field, place, "it cannot be read", "Check the file, or leave it out with a glob")


def _write_again(file: DataFile) -> str:
    return f"Write the file again, or remove .{file.packing} from its name if it is not packed"
