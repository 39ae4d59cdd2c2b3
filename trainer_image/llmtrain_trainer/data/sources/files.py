"""One file of a source and its bytes, unpacked. Listed by listing.py and hub_files.py, read by readers.py and model_files.py."""

from __future__ import annotations

import gzip
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

PACKED = ("gz", "zst")
"""Endings that are read through."""

UNPACKED_FREELY = 256 << 20
"""Bytes that any packed file may unpack to."""

MOST_TIMES = 500
"""Beyond them, times its own size that a packed file may unpack to. Text packs 3 to 20 times, logs that repeat themselves 100 times."""


class UnfitFileError(ValueError):
    """A file that is not read, and why: a clause whose subject is the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """One file and what tells it from another content under the same name."""

    uri: str
    """As a person would write it: scheme and full path. What cannot be printed is escaped."""

    name: str
    """Path below the source, with its ending."""

    identity: tuple[str, ...]
    """Changes when the content may have: place, inode, size and times; ETag; or commit."""

    size: int = 0
    """Bytes as it lies there."""

    asked: bool = True
    """Whether the source names it, by its path or by a glob for such files; False: it lies in a directory or repository that is named."""

    local: Path | None = None
    """Where it lies on this machine, if it does."""

    remote: str = ""
    """What fsspec opens where it does not."""

    @property
    def endings(self) -> list[str]:
        """In lower case: jsonl, gz for a.jsonl.gz."""
        return [suffix.lstrip(".").lower() for suffix in PurePosixPath(self.name).suffixes]

    @property
    def kind(self) -> str:
        """Its ending without the compression's: jsonl for a.jsonl.gz."""
        endings = self.endings
        while endings and endings[-1] in PACKED:
            endings.pop()
        return endings[-1] if endings else ""

    @property
    def packing(self) -> str | None:
        """gz, zst or None."""
        return self.endings[-1] if self.endings and self.endings[-1] in PACKED else None

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Its bytes, unpacked. Raises UnfitFileError where it is no regular file (any more) or unpacks to too much."""
        with self._raw() as raw:
            if self.packing == "gz":
                with gzip.open(raw) as plain:
                    yield _bounded(plain, self.size)
            elif self.packing == "zst":
                import pyarrow

                with pyarrow.CompressedInputStream(raw, "zstd") as plain:
                    yield _bounded(plain, self.size)
            elif self.local is not None or self.kind == "parquet":  # which is read by seeking
                yield raw
            else:  # fsspec's own files cannot read a line of some length at most
                yield io.BufferedReader(_Bounded(raw, None), 1 << 20)

    def _raw(self) -> IO[bytes]:
        if self.local is not None:
            return open_regular(self.local)
        import fsspec

        fs, path = fsspec.core.url_to_fs(self.remote)
        return cast(IO[bytes], fs.open(path, "rb"))


def open_regular(path: Path) -> IO[bytes]:
    """A local file for reading; never waits for a writer, as opening a pipe would. Raises UnfitFileError for anything but a file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if (reason := unfit(os.fstat(descriptor))) is not None:
        os.close(descriptor)
        raise UnfitFileError(reason)
    return os.fdopen(descriptor, "rb")


def unfit(facts: os.stat_result) -> str | None:
    """Why something with these facts is not read as a file; None for a regular file."""
    kinds = ((stat.S_ISDIR, "a directory"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISREG, None))
    kind = next((name for test, name in kinds if test(facts.st_mode)), "a device")
    return f"it is {kind}, not a regular file" if kind else None


def _bounded(plain: Any, packed: int) -> IO[bytes]:
    return io.BufferedReader(_Bounded(plain, max(UNPACKED_FREELY, MOST_TIMES * packed)), 1 << 20)


class _Bounded(io.RawIOBase):
    """What is read, up to a bound where there is one."""

    def __init__(self, plain: Any, most: int | None) -> None:
        self._plain, self._most, self._given = plain, most, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        data = self._plain.read(len(view))
        self._given += len(data)
        if self._most is not None and self._given > self._most:
            raise UnfitFileError(f"it unpacks to more than {self._most >> 20} MiB, over {MOST_TIMES} times its own size")
        view[: len(data)] = data
        return len(data)
