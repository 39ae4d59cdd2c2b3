"""Rows of one file by its kind: text, JSON lines, JSON, CSV, parquet."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import IO, Any

from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.blame import first_line, may_pass
from llmtrain_trainer.data.sources.arrow import batches, left_out, without_nulls
from llmtrain_trainer.data.sources.disguised import A_PAGE, no_text, of_another_kind, other_kind
from llmtrain_trainer.data.sources.files import MOST_TIMES, UNPACKED_FREELY, DataFile, UnfitFileError

LONGEST_DOCUMENT = 4 << 30
"""Bytes of a file that has to be in memory as a whole: a text file, a .json file."""

LONGEST_LINE = 1 << 30
"""Bytes of one line of JSON lines or CSV."""

SEPARATORS = (",", ";", "\t", "|")
"""What other programs put between the columns of a CSV file."""

LONGEST_NAME = 200
"""Characters of the name of a column."""

MARK = "\ufeff"
"""What Windows' editors put at the start of a file (byte order mark). It is no text."""


@dataclass(frozen=True, slots=True)
class Row:
    """One document as it was found."""

    place: str
    """File and row number, for messages."""

    values: dict[str, Any]
    unread: tuple[str, ...] = ()
    """Names of columns that the file has and that were not read."""

    bad: BadData | None = None
    """Why it cannot be read; it has no values then."""

    beside: bool = False
    """Whether it is of a file that lies in a directory with others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a file is read for."""

    field: str
    """Path of the dataset in the manifest."""

    columns: tuple[str, ...]
    """That the dataset's format reads."""

    where_there: tuple[str, ...] = ()
    """Columns that are read too where the file has them."""

    text: str | None
    """Column that a text file's content becomes; None where the format needs several."""

    format: str

    inside: tuple[str, ...] = ()
    """Keys of a .json file's object that lead to its rows."""

    separator: str | None = None
    """Between the columns of CSV; None: as the file's ending says."""

    header: tuple[str, ...] = ()
    """Names of the columns of CSV, where its first line does not name them."""

    def separator_of(self, file: DataFile) -> str:
        return self.separator or ("\t" if file.kind == "tsv" else ",")


Reader = Callable[[Asked, DataFile, IO[bytes]], Iterator[Row]]


def read_text(asked: Asked, file: DataFile, stream: IO[bytes]) -> Iterator[Row]:
    """One row: the whole file; for format lines each line that has letters."""
    if asked.text is None:
        way_out = "Use .jsonl, .json, .csv or .parquet, or set format: text or lines"
        raise BadData(f"{asked.field}.format", asked.format, f"{file.uri} is a text file without columns", way_out)
    if asked.format == "lines":
        yield from _text_lines(asked, asked.text, file, stream)
        return
    text = _decoded(asked, file.uri, _whole(asked, file, stream))
    if (why := no_text(text, asked.text)) is not None:
        raise _bad(asked, file.uri, *why)
    yield Row(file.uri, {asked.text: text})


def _text_lines(asked: Asked, column: str, file: DataFile, stream: IO[bytes]) -> Iterator[Row]:
    for number, line in _lines(asked, file, stream):
        if number == 1 and (why := no_text(line, column)) is not None:
            raise _bad(asked, file.uri, *why)
        if line.strip():
            yield Row(_place(file, number), {column: line.strip("\r\n")})


def read_jsonl(asked: Asked, file: DataFile, stream: IO[bytes]) -> Iterator[Row]:
    """One object a line."""
    for number, line in _pieces(asked, file, stream):
        row = _tried(_place(file, number), partial(_of_line, asked, file, number, line))
        if row is not None:
            yield row


def _of_line(asked: Asked, file: DataFile, number: int, line: bytes) -> Row | None:
    text = _decoded(asked, _place(file, number), line, mark=number == 1).strip().lstrip(MARK)
    way_out = A_PAGE if text.startswith("<") else f"Write one JSON object per line{_if_whole(text)}"
    return _object(asked, file, number, _parsed(asked, file, number, text, way_out)) if text else None


def _tried(place: str, make: Callable[[], Row | None]) -> Row | None:
    """The row, or why it is none: the rows behind it may be read all the same."""
    try:
        return make()
    except BadData as error:
        return Row(place, {}, bad=error)


def read_json(asked: Asked, file: DataFile, stream: IO[bytes]) -> Iterator[Row]:
    """A list of objects, or one; many .json files hold one object a line."""
    content = _whole(asked, file, stream)
    text = _decoded(asked, file.uri, content)
    if not text.strip():
        return
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        if not _is_lines(text):
            where = f"{file.uri} line {error.lineno}" if isinstance(error, json.JSONDecodeError) else file.uri
            way_out = A_PAGE if text.lstrip().startswith("<") else "Write a list of objects, or one object per line"
            raise _bad(asked, where, f"it is not JSON ({_said(error)})", way_out) from error
        yield from read_jsonl(asked, file, io.BytesIO(content))
        return
    value = _inside(asked, file, value)
    for number, item in enumerate(value if isinstance(value, list) else [value], start=1):
        if row := _tried(_place(file, number), partial(_object, asked, file, number, item)):
            yield row


def _inside(asked: Asked, file: DataFile, value: Any) -> Any:
    """What stands under the keys that the dataset names."""
    for key in asked.inside:
        if not isinstance(value, dict) or key not in value:
            found = f"found {', '.join(map(str, value))}" if isinstance(value, dict) else "it is no object"
            rule = f"{file.uri} has no key {key} there ({first_line(ValueError(found))})"
            raise BadData(f"{asked.field}.field", ".".join(asked.inside), rule, "Name the keys that lead to the rows, such as data")
        value = value[key]
    return value


def read_csv(asked: Asked, file: DataFile, stream: IO[bytes]) -> Iterator[Row]:
    """A header, unless the dataset gives it, then a row each; quoted as RFC 4180 says."""
    csv.field_size_limit(sys.maxsize)
    lines = (line.removeprefix(MARK) if number == 1 else line for number, line in _lines(asked, file, stream))
    first, separator, named = next(lines, ""), asked.separator_of(file), asked.header
    _check_first(asked, file, first, separator)
    rows = csv.DictReader(chain([first] if first else [], lines), fieldnames=named or None, delimiter=separator, strict=True)
    number, began = 0, 1
    try:
        if not named:
            _check_header(asked, file, rows.fieldnames or ())
        began = rows.line_num + 1
        for number, row in enumerate(rows, start=1):
            began = rows.line_num + 1
            if None in row:
                rule = f"it has more fields than the {len(rows.fieldnames or ())} of the header"
                yield Row(_place(file, number), {}, bad=_bad_row(asked, file, number, rule, "Quote fields that hold the separator"))
                continue
            short = next((column for column in asked.columns if column in row and row[column] is None), None)
            if short is not None:
                rule = f"it ends before column {short} (the header has {len(rows.fieldnames or ())} fields)"
                error = _bad_row(asked, file, number, rule, "Give every row all fields, or correct the quotes")
                yield Row(_place(file, number), {}, bad=error)
                continue
            yield Row(_place(file, number), row)
    except csv.Error as error:
        raise _bad_row(
            asked, file, number + 1, f"it is not CSV ({first_line(error)}; the row begins at line {began})", "Quote fields as RFC 4180 says"
        ) from error


def read_parquet(asked: Asked, file: DataFile, stream: IO[bytes]) -> Iterator[Row]:
    """The columns that are needed, or all where one of them is missing: a message then names what is there."""
    import pyarrow.parquet

    whole = io.BytesIO(_whole(asked, file, stream)) if file.packing else stream
    number = 0
    try:
        table = pyarrow.parquet.ParquetFile(whole)
        there = set(table.schema_arrow.names)
        _check_once(asked, file, "its schema", table.schema_arrow.names)
        wanted = dict.fromkeys((*asked.columns, *asked.where_there))
        columns = [name for name in wanted if name in there] if set(asked.columns) <= there else None
        unread = tuple(left_out(table, columns)) if columns else ()
        _check_pages(table.metadata, columns)
        for batch in table.iter_batches(batch_size=256, columns=columns):
            for values in batch.to_pylist():
                number += 1
                yield Row(_place(file, number), {name: without_nulls(value) for name, value in values.items()}, unread)
    except (BadData, GeneratorExit):
        raise
    except MemoryError as error:
        raise _too_large(asked, file, error) from error
    except Exception as error:
        if may_pass(error):
            raise
        if isinstance(error, UnfitFileError):
            raise _bad(asked, file.uri, str(error), "Check the file, and write it again") from error
        raise _no_table(asked, file, whole, "a parquet file", number, error) from error


def read_arrow(asked: Asked, file: DataFile, stream: IO[bytes]) -> Iterator[Row]:
    """The columns that are needed of a table in Arrow's stream or file format, which the datasets library saves to disk."""
    number = 0
    try:
        for batch in batches(stream, file):
            _check_once(asked, file, "its schema", batch.schema.names)
            there = set(batch.schema.names)
            wanted = dict.fromkeys((*asked.columns, *asked.where_there))
            columns = [name for name in wanted if name in there] if set(asked.columns) <= there else batch.schema.names
            unread = tuple(name for name in batch.schema.names if name not in columns and batch.column(name).null_count < batch.num_rows)
            for values in batch.select(columns).to_pylist():
                number += 1
                yield Row(_place(file, number), {name: without_nulls(value) for name, value in values.items()}, unread)
    except (BadData, GeneratorExit):
        raise
    except MemoryError as error:
        raise _too_large(asked, file, error) from error
    except Exception as error:
        if may_pass(error):
            raise
        raise _no_table(asked, file, stream, "an Arrow file", number, error) from error


def _no_table(asked: Asked, file: DataFile, stream: IO[bytes], kind: str, number: int, error: Exception) -> BadData:
    """A file that is no table of its kind, or not one after `number` rows."""
    if (why := of_another_kind(file, stream)) is not None:
        return _bad(asked, file.uri, *why)
    rule = f"it is not {kind} that can be read ({first_line(error)})"
    return _bad(asked, f"{file.uri} row {number + 1}" if number else file.uri, rule, "Write the file again")


def _too_large(asked: Asked, file: DataFile, error: MemoryError) -> BadData:
    """A table whose next batch does not fit in memory: it is damaged, or written in huge batches."""
    rule = f"its next batch needs more memory than there is ({first_line(error)})"
    return _bad(asked, file.uri, rule, "Check the file, and write it again with fewer rows in a batch")


READERS: Mapping[str, Reader] = {
    "txt": read_text,
    "jsonl": read_jsonl,
    "ndjson": read_jsonl,
    "jsonlines": read_jsonl,
    "json": read_json,
    "csv": read_csv,
    "tsv": read_csv,
    "parquet": read_parquet,
    "arrow": read_arrow,
}
"""By ending; any other is text."""

ROWS = frozenset(READERS) - {"txt"}
"""Endings of files with rows."""


def reader_of(file: DataFile) -> Reader:
    """The one for this file."""
    return READERS.get(file.kind, read_text)


def _check_pages(metadata: Any, columns: list[str] | None) -> None:
    """A column that claims to unpack to far more than it is would fill the memory. Raises UnfitFileError."""
    for group in (metadata.row_group(i) for i in range(metadata.num_row_groups)):
        for column in (group.column(i) for i in range(group.num_columns)):
            wanted = columns is None or column.path_in_schema.partition(".")[0] in columns
            most = max(UNPACKED_FREELY, MOST_TIMES * column.total_compressed_size)
            if wanted and column.total_uncompressed_size > most:
                raise UnfitFileError(f"its column {column.path_in_schema} unpacks to over {MOST_TIMES} times its own size")


def _check_first(asked: Asked, file: DataFile, header: str, separator: str) -> None:
    """Of the first line, before it is read as CSV: quotes around names are an error where another separator follows."""
    if header.casefold().startswith("sep="):
        way_out = f"Remove that line, and set {asked.field}.csv.separator to {json.dumps(header.strip()[4:5] or ';')}"
        raise _bad(asked, file.uri, f"its first line is {header.strip()}, which spreadsheets write there and is no header", way_out)
    if asked.header:
        _check_repeated(asked, file, header, separator)
        return
    names = {name.strip().strip('"') for name in header.split(separator)}
    other = next((s for s in SEPARATORS if s != separator and s in header), None)
    if other is None or separator in header or names & set(asked.columns):
        return
    said, read = (_SAID.get(some, some) for some in (other, separator))
    way_out = f"Set {asked.field}.csv.separator to {json.dumps(other)}"
    raise _bad(asked, file.uri, f"its columns are separated by {said}, and it is read with {read}", way_out)


_SAID = {",": "commas", "\t": "tabs"}


def _check_repeated(asked: Asked, file: DataFile, first: str, separator: str) -> None:
    """A first line with the names that the dataset gives would be read as a row."""
    if [name.strip().strip('"') for name in first.split(separator)] == list(asked.header):
        rule = f"its first line names the columns, and {asked.field}.csv.header does too"
        raise _bad(asked, file.uri, rule, f"Leave {asked.field}.csv.header out")


def _check_header(asked: Asked, file: DataFile, names: Sequence[str]) -> None:
    if names and not set(asked.columns) & set(names) and any(_is_value(name) for name in names):
        rule = f"its first line names no columns (found {first_line(ValueError(','.join(names)))})"
        way_out = f"Name all columns in {asked.field}.csv.header, or put a line with their names first: {','.join(asked.columns)}"
        raise _bad(asked, file.uri, rule, way_out)
    _check_once(asked, file, "its header", names)


def _check_once(asked: Asked, file: DataFile, where: str, names: Sequence[str]) -> None:
    """Of two columns of one name only one would be read."""
    twice = [name for name, count in Counter(names).items() if count > 1 and name in asked.columns]
    if twice:
        raise _bad(asked, file.uri, f"{where} names column {twice[0]} twice", "Give each column a name of its own")


def _is_value(name: str) -> bool:
    """Whether it is rather a number or a text than the name of a column."""
    return len(name) > LONGEST_NAME or name.strip().lstrip("-").replace(".", "", 1).isdigit()


def _lines(asked: Asked, file: DataFile, stream: IO[bytes]) -> Iterator[tuple[int, str]]:
    """Lines as text."""
    return ((number, _decoded(asked, _place(file, number), piece, mark=number == 1)) for number, piece in _pieces(asked, file, stream))


def _pieces(asked: Asked, file: DataFile, stream: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Lines numbered from 1, with their ends. A carriage return alone ends a line too."""
    number = 0
    while raw := stream.readline(LONGEST_LINE + 1):
        if not number and (why := other_kind(raw, file)) is not None:
            raise _bad(asked, file.uri, *why)
        if len(raw) > LONGEST_LINE:
            rule = f"the line is longer than {LONGEST_LINE >> 30} GiB"
            raise _bad_row(asked, file, number + 1, rule, "Check that the file has one row per line")
        for piece in raw.splitlines(keepends=True):
            number += 1
            yield number, piece


def _whole(asked: Asked, file: DataFile, stream: IO[bytes]) -> bytes:
    content = stream.read(LONGEST_DOCUMENT + 1)
    if file.kind != "parquet" and (why := other_kind(content, file)) is not None:
        raise _bad(asked, file.uri, *why)
    if len(content) > LONGEST_DOCUMENT:
        rule = f"it is larger than {LONGEST_DOCUMENT >> 30} GiB, and a {file.kind or 'text'} file is read as a whole"
        raise _bad(asked, file.uri, rule, "Split it into several files, or write it as .jsonl with one document per line")
    return content


def _decoded(asked: Asked, place: str, content: bytes, *, mark: bool = True) -> str:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        wide = mark and content.startswith((b"\xff\xfe", b"\xfe\xff"))
        rule = "it is UTF-16, not UTF-8 text" if wide else f"it is not UTF-8 text (byte {error.start})"
        raise _bad(asked, place, rule, "Convert it to UTF-8, or choose the text files with a glob") from error
    return text.removeprefix(MARK) if mark else text


def _is_lines(text: str) -> bool:
    """Whether a .json file means to hold one object a line: its first line is one."""
    first = text.lstrip().partition("\n")[0]
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def _parsed(asked: Asked, file: DataFile, number: int, text: str, way_out: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _bad_row(asked, file, number, f"it is not JSON ({_said(error)})", way_out) from error


def _if_whole(text: str) -> str:
    """For a line that begins a list: the file may be one JSON document."""
    return ", or end the file's name in .json if it is one list" if text.startswith("[") else ""


def _said(error: Exception) -> str:
    return f"{error.msg.removesuffix(' at')} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else first_line(error)


def _object(asked: Asked, file: DataFile, number: int, value: Any) -> Row:
    if value is None:
        return Row(_place(file, number), dict.fromkeys(asked.columns))
    if not isinstance(value, dict):
        whole = _if_whole("[") if file.kind != "json" and isinstance(value, list) else ""
        way_out = f'Write objects such as {{"{asked.columns[0]}": ...}}{whole}'
        raise _bad_row(asked, file, number, f"it is a {type(value).__name__}, not an object", way_out)
    return Row(_place(file, number), value)


def _place(file: DataFile, number: int) -> str:
    return f"{file.uri} row {number}"


def _bad_row(asked: Asked, file: DataFile, number: int, rule: str, way_out: str) -> BadData:
    return _bad(asked, _place(file, number), rule, way_out)


def _bad(asked: Asked, value: str, rule: str, way_out: str) -> BadData:
    return BadData(f"{asked.field}.source", value, rule, way_out)
