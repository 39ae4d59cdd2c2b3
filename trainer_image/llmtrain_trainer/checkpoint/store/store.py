"""Where checkpoints are kept: one small Protocol over a directory and over an S3 bucket.

`put_file` reads a file once: what is hashed is what is sent. Everything that is written is whole or not there.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from llmtrain_trainer.checkpoint.store.errors import BadCheckpointError, MissingError

FILES_AT_ONCE = 4
"""Files hashed side by side: SHA-256 runs at 0.5 to 2 GB/s a core, so that one file alone would not fill a fast link."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """Size and content of a file."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """One object of a listing."""

    key: str
    """Relative to the store's prefix."""

    bytes: int


class Store(Protocol):
    """Keys are relative to the store's prefix. Any thread may call; raises StoreUnreachableError, StoreRefusedError or MissingError."""

    def uri(self, key: str = "") -> str:
        """The full address, for messages."""
        ...

    def put_file(self, source: Path, key: str) -> Digest:
        """Copy a file into the store. Returns its size and SHA-256, computed from the bytes that were sent."""
        ...

    def put_bytes(self, key: str, data: bytes) -> None:
        """Write a small object, replacing what was there."""
        ...

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write a small object unless one is there. True when the store now holds `data` under `key`."""
        ...

    def get_bytes(self, key: str) -> bytes:
        """Read a small object."""
        ...

    def chunks(self, key: str, size: int) -> Iterator[bytes]:
        """Read an object of `size` bytes in order, a few MiB at a time; a shorter object yields less."""
        ...

    def entries(self, prefix: str = "") -> list[StoredObject]:
        """Every object below a prefix, sorted by key."""
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; one that is not there counts as removed."""
        ...

    def abort_stale_uploads(self, older_than: float) -> int:
        """Remove what unfinished uploads older than this many seconds left behind; returns how many."""
        ...

    @property
    def patience(self) -> float:
        """Seconds for which implausible content is read again: a proxy or a cache may answer instead of the store."""
        ...

    def local(self, key: str) -> Path | None:
        """The file itself where the store is a directory of this machine."""
        ...


class Traffic(Protocol):
    """Is told of requests to a bucket, from any thread."""

    def answered(self, op: str, code: str) -> None:
        """One try of an operation ended with an HTTP status, or `error` where no answer came."""
        ...

    def tried_again(self) -> None:
        """A request is repeated."""
        ...


def delete_prefix(store: Store, prefix: str, first: str) -> None:
    """Remove all below a prefix, the key `first` before anything else: what stays after a crash is then no longer a checkpoint."""
    store.delete([first])
    store.delete([entry.key for entry in store.entries(prefix)])


def read_or_none(store: Store, key: str) -> bytes | None:
    """A small object, or None if there is none."""
    try:
        return store.get_bytes(key)
    except MissingError:
        return None


def digest_file(path: Path) -> Digest:
    """Size and SHA-256 of a local file, read in blocks."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return Digest(bytes=file.tell(), sha256=sha256)


def verify_object(store: Store, key: str, expected: Digest, into: Path | None = None) -> None:
    """Read an object and compare; with `into`, keep a copy there, which appears only if it is right. Raises BadCheckpointError."""
    hasher, size = hashlib.sha256(), 0
    draft = into.with_name(f".{into.name}.part") if into else None
    try:
        with (draft or Path(os.devnull)).open("wb") as file:
            for chunk in store.chunks(key, expected.bytes):
                hasher.update(chunk)
                size += file.write(chunk)
        got = Digest(bytes=size, sha256=hasher.hexdigest())
        if got != expected:
            raise BadCheckpointError(describe_mismatch(store.uri(key), got, expected))
        if draft and into:
            draft.replace(into)
    finally:
        if draft:
            draft.unlink(missing_ok=True)


def describe_mismatch(place: str, got: Digest, expected: Digest) -> str:
    """One clause: what the file is and what the manifest says it should be."""
    if got.bytes != expected.bytes:
        return f"{place} has {got.bytes} bytes, its manifest says {expected.bytes}"
    return f"{place} has sha256 {got.sha256[:12]}, its manifest says {expected.sha256[:12]}"


def side_by_side() -> ThreadPoolExecutor:
    """Threads for whole files; the stores have their own for parts, so that neither waits for the other."""
    return ThreadPoolExecutor(FILES_AT_ONCE, thread_name_prefix="checkpoint-file")
