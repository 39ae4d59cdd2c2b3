"""Tokenised rows on disk: written once by preparation, memory-mapped by every rank.

A directory holds one of two forms, told by its set.json:
  stream  tokens.npy int32 [n]; row r is tokens[r*length : (r+1)*length], its labels are the same one further
  table   <column>.npy int32 [rows, length] for each column that set.json names, targets.npy int32 [rows]
and counts.npy int64: how often each token id is a target.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import IO, Protocol

import numpy as np
from numpy.typing import NDArray

from llmtrain_trainer.config.strict import Strict
from llmtrain_trainer.data.cache import digest, file_digest
from llmtrain_trainer.data.columns import INPUT_IDS, LABELS, OF_TOKENS, POSITION_IDS, Columns, Ints


class SetStats(Strict):
    """set.json: what one directory of rows holds."""

    form: str
    """stream or table."""

    rows: int
    length: int
    """Tokens a row."""

    columns: tuple[str, ...] = OF_TOKENS
    """What each row has, as data/columns.py names it; rows written before there was a choice name none."""

    tokens: int
    """Tokens of all documents, padding not counted."""

    targets: int
    """Tokens that are predicted, over all rows."""

    documents: int
    dropped: int = 0
    """Documents left out: empty, or without an answer to learn."""

    truncated: int = 0
    """Documents that are longer than the length and were cut: at the beginning of their prompt, at their end, or both."""

    prompts_cut: int = 0
    """Conversations that lost the beginning of their prompt."""

    answers_cut: int = 0
    """Documents that lost the end of what is learned."""

    conversations: int = 0
    """Documents of which some is a prompt that is not learned, left out ones not counted."""

    longest: int = 0
    """Tokens of the longest document."""

    fitting: tuple[int, int] = (0, 0)
    """Lengths with which half of the prompts would be cut at most, and none."""

    ends: tuple[int, ...] = ()
    """Tokens that answers end in, the most frequent first."""

    found: dict[str, int] = {}
    """What a person should know, as kinds of prepare/told.py, with how many documents or turns."""

    digest: str = ""
    """Of the arrays."""

    def save(self, directory: Path, counts: Ints) -> SetStats:
        """Write set.json and counts.npy; returns these stats with the digest of all arrays."""
        np.save(directory / "counts.npy", counts)
        whole = self.model_copy(update={"digest": digest([file_digest(path) for path in sorted(directory.glob("*.npy"))])})
        (directory / "set.json").write_text(whole.model_dump_json(by_alias=True))
        return whole


class Rows(Protocol):
    """Random access to rows of one length."""

    def __len__(self) -> int: ...

    @property
    def columns(self) -> tuple[str, ...]:
        """What each row has."""
        ...

    def take(self, rows: Ints) -> Columns:
        """Every column of these rows, each [len(rows), length]."""
        ...

    def targets(self, rows: Ints) -> Ints:
        """How many labels of each row are not NO_TARGET: [len(rows)]."""
        ...


class Stream:
    """Every token is a target, but the first."""

    columns = OF_TOKENS

    def __init__(self, directory: Path, stats: SetStats) -> None:
        self._tokens = np.load(directory / "tokens.npy", mmap_mode="r")
        self._rows, self._length = stats.rows, stats.length

    def __len__(self) -> int:
        return self._rows

    def take(self, rows: Ints) -> Columns:
        spans = np.stack([self._tokens[row * self._length : (row + 1) * self._length + 1] for row in rows.tolist()]).astype(np.int64)
        positions = np.broadcast_to(np.arange(self._length, dtype=np.int64), (len(rows), self._length))
        return {INPUT_IDS: spans[:, :-1], LABELS: spans[:, 1:], POSITION_IDS: positions}

    def targets(self, rows: Ints) -> Ints:
        return np.full(len(rows), self._length, dtype=np.int64)


class TableRows:
    """Rows laid out one by one."""

    def __init__(self, directory: Path, stats: SetStats) -> None:
        self.columns = stats.columns
        self._columns = {name: np.load(directory / f"{name}.npy", mmap_mode="r") for name in stats.columns}
        self._targets = np.load(directory / "targets.npy", mmap_mode="r")
        self._rows = stats.rows

    def __len__(self) -> int:
        return self._rows

    def take(self, rows: Ints) -> Columns:
        return {name: column[rows].astype(np.int64) for name, column in self._columns.items()}

    def targets(self, rows: Ints) -> Ints:
        found: Ints = self._targets[rows].astype(np.int64)
        return found


def read_stats(directory: Path) -> SetStats:
    return SetStats.model_validate_json((directory / "set.json").read_text())


def count_tokens(counts: Ints, ids: NDArray[np.int32]) -> Ints:
    """`counts` [vocabulary] with the occurrences of `ids` [tokens] added; longer where an id is beyond its end."""
    more = np.bincount(ids, minlength=len(counts)).astype(np.int64)
    more[: len(counts)] += counts
    return more


def open_rows(directory: Path) -> Rows:
    """The rows of a directory that a task's writer finished."""
    stats = read_stats(directory)
    return Stream(directory, stats) if stats.form == "stream" else TableRows(directory, stats)


class Appender:
    """An int32 .npy file that grows along its first axis, so that what is written never has to fit in memory."""

    def __init__(self, path: Path, width: int | None = None) -> None:
        self._file: IO[bytes] = path.open("wb")
        self._tail = () if width is None else (width,)
        self.length = 0
        self._write_header()

    def append(self, values: NDArray[np.int32]) -> None:
        """values: [n] or [n, width]."""
        self._file.write(np.ascontiguousarray(values, dtype=np.int32).tobytes())
        self.length += len(values)

    def close(self) -> None:
        self._file.seek(0)
        self._write_header()  # numpy pads the header so that the first axis can grow: it has the same size again
        self._file.close()

    def _write_header(self) -> None:
        header = {"descr": "<i4", "fortran_order": False, "shape": (self.length, *self._tail)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def __enter__(self) -> Appender:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
