"""Rows of a dataset's files, in an order that never changes. Called by preparation, by streaming and by tokenizer training."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any

from llmtrain_trainer.config.dataset import Dataset
from llmtrain_trainer.data.bad_data import BadData, Unreachable
from llmtrain_trainer.data.files import File, list_files

DATA_PATTERNS = tuple(f"*.{kind}{packed}" for kind in ("txt", "jsonl", "json", "csv", "parquet") for packed in ("", ".gz", ".zst"))
"""What is downloaded of a dataset repository when the source names no path in it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One document as it was found."""

    place: str
    """File and row number, for messages."""

    values: dict[str, Any]


def wanted_columns(dataset: Dataset) -> tuple[str, ...]:
    """Columns that this dataset's format reads."""
    columns = dataset.columns
    by_format = {"text": (columns.text,), "promptCompletion": (columns.prompt, columns.completion), "messages": (columns.messages,)}
    return by_format[dataset.format]


def dataset_files(field: str, dataset: Dataset) -> list[File]:
    """Files of a dataset; of an hf:// repository those of its split."""
    files = list_files(f"{field}.source", dataset.source, repository="dataset", patterns=DATA_PATTERNS)
    return _of_split(field, dataset.split, files) if dataset.source.startswith("hf://") and len(files) > 1 else files


def _of_split(field: str, split: str, files: list[File]) -> list[File]:
    """By the convention of hub repositories: the split's name is a word in the file's path."""
    word = re.compile(rf"(^|[/_.-]){re.escape(split)}([/_.-]|$)")
    chosen = [file for file in files if word.search(file.name)]
    named = [file for file in files if re.search(r"(^|[/_.-])(train|test|validation|valid|dev)([/_.-]|$)", file.name)]
    if not chosen and split == "train" and not named:
        return files
    if not chosen:
        names = ", ".join(file.name for file in files[:5])
        raise BadData(
            f"{field}.split",
            split,
            f"no file of the repository is named after it (found {names})",
            "Give the files in source: hf://owner/name/path*",
        )
    return chosen


def read_rows(field: str, dataset: Dataset, files: Sequence[File]) -> Iterator[Row]:
    """All rows, file after file; at most dataset.max_samples."""
    rows = (row for file in files for row in _rows(field, dataset, file))
    return islice(rows, dataset.max_samples)


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
    said = json.dumps([row.values.get(column) for column in wanted_columns(dataset)], sort_keys=True, default=str)
    return int.from_bytes(hashlib.blake2b(said.encode(), digest_size=8).digest(), "big") < share * 2**64


def _rows(field: str, dataset: Dataset, file: File) -> Iterator[Row]:
    reader = _READERS.get(file.kind, _text)
    try:
        with file.open() as stream:
            yield from reader(field, dataset, file, stream)
    except UnicodeDecodeError as error:
        way_out = "Convert it to UTF-8, or choose the text files with a glob"
        raise BadData(f"{field}.source", file.uri, f"the file is not UTF-8 text (byte {error.start})", way_out) from error
    except (EOFError, OSError, zlib.error) as error:
        if isinstance(error, OSError) and not file.name.endswith((".gz", ".zst")):
            raise Unreachable(f"{field}.source", file.uri, error) from error
        raise BadData(f"{field}.source", file.uri, f"it cannot be decompressed to its end ({error})", "Write the file again") from error


def _text(field: str, dataset: Dataset, file: File, stream: IO[bytes]) -> Iterator[Row]:
    if dataset.format != "text":
        way_out = "Use .jsonl, .json, .csv or .parquet, or set format: text"
        raise BadData(f"{field}.format", dataset.format, f"{file.uri} is a text file without columns", way_out)
    yield Row(file.uri, {dataset.columns.text: stream.read().decode("utf-8")})


def _jsonl(field: str, _: Dataset, file: File, stream: IO[bytes]) -> Iterator[Row]:
    for number, raw in enumerate(io.TextIOWrapper(stream, "utf-8"), start=1):
        if line := raw.strip():
            try:
                value = json.loads(line)
            except json.JSONDecodeError as error:
                raise _bad_row(
                    field, file, number, f"it is not JSON ({error.msg} at column {error.colno})", "Write one JSON object a line"
                ) from error
            yield _object(field, file, number, value)


def _json(field: str, dataset: Dataset, file: File, stream: IO[bytes]) -> Iterator[Row]:
    content = stream.read()
    try:
        value = json.loads(content)
    except json.JSONDecodeError:
        yield from _jsonl(field, dataset, file, io.BytesIO(content))  # many .json files hold one object a line
        return
    for number, item in enumerate(value if isinstance(value, list) else [value], start=1):
        yield _object(field, file, number, item)


def _csv(field: str, _: Dataset, file: File, stream: IO[bytes]) -> Iterator[Row]:
    csv.field_size_limit(sys.maxsize)
    rows = csv.DictReader(io.TextIOWrapper(stream, "utf-8-sig", newline=""), strict=True)
    try:
        for number, row in enumerate(rows, start=1):
            if None in row:
                raise _bad_row(
                    field,
                    file,
                    number,
                    f"it has more fields than the {len(rows.fieldnames or ())} of the header",
                    "Quote fields that hold commas",
                )
            yield Row(f"{file.uri} row {number}", row)
    except csv.Error as error:
        raise _bad_row(field, file, rows.line_num, f"it is not CSV ({error})", "Quote fields as RFC 4180 says") from error


def _parquet(field: str, dataset: Dataset, file: File, stream: IO[bytes]) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(stream)
    except pyarrow.ArrowInvalid as error:
        raise BadData(f"{field}.source", file.uri, f"it is not a parquet file ({error})", "Write the file again") from error
    wanted = wanted_columns(dataset)
    # A missing column is told of with all the columns that are there, so nothing is left out then.
    columns = list(wanted) if set(wanted) <= set(table.schema_arrow.names) else None
    number = 0
    for batch in table.iter_batches(batch_size=1024, columns=columns):
        for values in batch.to_pylist():
            number += 1
            yield Row(f"{file.uri} row {number}", values)


def _object(field: str, file: File, number: int, value: Any) -> Row:
    if not isinstance(value, dict):
        raise _bad_row(field, file, number, f"it is a {type(value).__name__}, not an object", 'Write objects such as {"text": "..."}')
    return Row(f"{file.uri} row {number}", value)


def _bad_row(field: str, file: File, number: int, rule: str, way_out: str) -> BadData:
    return BadData(f"{field}.source", f"{file.uri} row {number}", rule, way_out)


_Reader = Callable[[str, Dataset, File, IO[bytes]], Iterator[Row]]
_READERS: dict[str, _Reader] = {"jsonl": _jsonl, "json": _json, "csv": _csv, "parquet": _parquet}
