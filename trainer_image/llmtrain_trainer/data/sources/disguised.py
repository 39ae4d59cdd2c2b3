"""Files that are of another kind than their name says, told by how they begin."""

from __future__ import annotations

import json
from typing import IO

from llmtrain_trainer.data.sources.files import DataFile

_BEGINNINGS: tuple[tuple[bytes, str, str], ...] = (
    (b"\x1f\x8b", "packed with gzip", "gz"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd", "zst"),
    (b"PAR1", "a parquet file", "parquet"),
    (b"PK\x03\x04", "a zip archive or a spreadsheet", ""),
    (b"BZh", "packed with bzip2", ""),
    (b"\xfd7zXZ\x00", "packed with xz", ""),
    (b"ARROW1", "an Arrow file", "arrow"),
    (b"%PDF-", "a PDF document", ""),
    (b"SQLite format 3\x00", "a database", ""),
    (b"\x89HDF", "an HDF5 file", ""),
)
"""How a file begins, what it is, and the ending with which it is read."""

A_PAGE = "It looks like a web page or a store's error message in place of the file: fetch the file again"
"""The way out for a file that begins with < and is no text."""

POINTER = b"version https://git-lfs.github.com/spec/"
"""How a file begins that stands for one in Git LFS."""


def other_kind(content: bytes, file: DataFile) -> tuple[str, str] | None:
    """(rule, way out) where the first bytes are those of another kind of file; None where they are not."""
    if content.startswith(POINTER):
        return "it is a pointer of Git LFS, not the file itself", "Fetch the file, such as with git lfs pull"
    found = next(((what, ending) for start, what, ending in _BEGINNINGS if content.startswith(start)), None)
    if found is None:
        return None
    what, ending = found
    inside = f"what is in {file.name} is {what}"
    if ending in ("gz", "zst"):
        return inside, f"End its name in .{ending}, such as {file.name}.{ending}"
    if ending:
        return inside, f"End its name in .{ending}"
    return inside, "Convert it to .jsonl or .parquet"


def of_another_kind(file: DataFile, stream: IO[bytes]) -> tuple[str, str] | None:
    """The same of a table that could not be read, in which readers move about."""
    if not stream.seekable():
        return None
    stream.seek(0)
    begins = stream.read(64)
    if begins.lstrip()[:1] == b"<":
        return "it is no table", A_PAGE
    return None if begins.startswith((b"PAR1", b"ARROW1")) and file.kind in ("parquet", "arrow") else other_kind(begins, file)


def no_text(text: str, column: str) -> tuple[str, str] | None:
    """(rule, way out) for a file that is read as one text and is none: it has NUL characters, or is lines of rows with this column."""
    if "\0" in text[:8192]:
        return "it is binary (it has NUL characters), not text", "Leave it out with a glob, or convert it"
    first = text.lstrip().partition("\n")[0]
    if not first.startswith("{"):
        return None
    try:
        row = json.loads(first)
    except (ValueError, RecursionError):
        return None
    if isinstance(row, dict) and column in row:
        return f"its first line is a row with column {column}, and a file of this name is read as one text", "End its name in .jsonl"
    return None
