"""Arrow tables: their batches, what they add to rows and hide of them. Called where parquet and Arrow files are read."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator
from typing import IO, Any

from llmtrain_trainer.data.sources.files import MOST_TIMES, UNPACKED_FREELY, DataFile, UnfitFileError

ROWS_AT_ONCE = 256


def without_nulls(value: Any) -> Any:
    """`value` without the null members of its objects: Arrow gives every object of a column the keys of all of them.

    Maps, which pyarrow gives as lists of pairs, become objects.
    """
    if isinstance(value, list) and value and all(isinstance(item, tuple) and len(item) == 2 for item in value):
        value = dict(value)
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def left_out(table: Any, columns: Collection[str]) -> Iterator[str]:
    """Columns of a pyarrow ParquetFile that are not among `columns` and, as far as its statistics tell, hold something."""
    groups = [table.metadata.row_group(i) for i in range(table.metadata.num_row_groups)]
    for field in table.schema_arrow:
        empty = str(field.type) == "null" or (groups and all(_is_null(group, field.name) for group in groups))
        if field.name not in columns and not empty:
            yield field.name


def _is_null(group: Any, name: str) -> bool:
    for i in range(group.num_columns):
        column = group.column(i)
        if column.path_in_schema == name:
            told = column.statistics
            return bool(told is not None and told.has_null_count and told.null_count == group.num_rows)
    return False


def batches(stream: IO[bytes], file: DataFile) -> Iterator[Any]:
    """Record batches of few rows. Each is validated as a whole: offsets that lead outside a buffer would end the process."""
    import pyarrow.ipc

    seekable = io.BytesIO(stream.read()) if file.packing or not stream.seekable() else stream
    in_file_format = seekable.read(6) == b"ARROW1"
    seekable.seek(0)
    reader = pyarrow.ipc.open_file(seekable) if in_file_format else pyarrow.ipc.open_stream(seekable)
    whole = (reader.get_batch(i) for i in range(reader.num_record_batches)) if in_file_format else reader
    for batch in whole:
        batch.validate(full=True)
        if batch.nbytes > max(UNPACKED_FREELY, MOST_TIMES * file.size):
            raise UnfitFileError(f"a batch of it unpacks to over {MOST_TIMES} times the file's size")
        yield from (batch.slice(start, ROWS_AT_ONCE) for start in range(0, batch.num_rows, ROWS_AT_ONCE))
