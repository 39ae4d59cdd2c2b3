"""A store in a directory: a local disk, NFS, a mounted claim.

A file is written under a draft name, synced, renamed, and its directory synced: after a power cut it is whole or absent.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from llmtrain_trainer.checkpoint.store.errors import MissingError, StoreFullError, StoreRefusedError, StoreUnreachableError
from llmtrain_trainer.checkpoint.store.store import Digest, StoredObject

BLOCK = 8 << 20
DRAFT = ".part"
STALE_DRAFT = 3600.0
"""Seconds after which a draft in a directory that is being deleted is taken for dead."""

_HOST = re.sub(r"[^A-Za-z0-9]", "", socket.gethostname()) or "host"


class FileStore:
    """Keys are paths below `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def patience(self) -> float:
        """A directory says what it holds."""
        return 0.0

    def uri(self, key: str = "") -> str:
        return f"file://{self._root / key}"

    def local(self, key: str) -> Path | None:
        return self._root / key

    def put_file(self, source: Path, key: str) -> Digest:
        with self._explained("write", key), self._drafted(key) as draft:
            digest = _copy(source, draft)
            self._publish(draft, key)
        return digest

    def put_bytes(self, key: str, data: bytes) -> None:
        with self._explained("write", key), self._drafted(key, data) as draft:
            self._publish(draft, key)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """True if the key holds `data` now: link(2) publishes a complete file, and fails if the name exists."""
        with self._explained("write", key), self._drafted(key, data) as draft:
            try:
                os.link(draft, self._root / key)  # the one call that both publishes a whole file and fails if there is one
                _sync_directory((self._root / key).parent)
            except FileExistsError:
                return (self._root / key).read_bytes() == data
        return True

    def get_bytes(self, key: str) -> bytes:
        with self._explained("read", key):
            return (self._root / key).read_bytes()

    def chunks(self, key: str, size: int) -> Iterator[bytes]:  # noqa: ARG002 - a file knows its size
        with self._explained("read", key), (self._root / key).open("rb") as file:
            while block := file.read(BLOCK):
                yield block

    def entries(self, prefix: str = "") -> list[StoredObject]:
        with self._explained("list", prefix):
            # A prefix that ends in "/" is a directory; walking the others' files would cost a stat each.
            start = self._root / prefix if prefix.endswith("/") else self._root
            return sorted((e for e in self._walk(start) if e.key.startswith(prefix)), key=lambda e: e.key)

    def delete(self, keys: Sequence[str]) -> None:
        with self._explained("delete", keys[0] if keys else ""):
            for key in keys:
                (self._root / key).unlink(missing_ok=True)
            for directory in {(self._root / key).parent for key in keys} - {self._root}:
                self._drop_if_empty(directory)

    def abort_stale_uploads(self, older_than: float) -> int:
        """Drafts of a process of this host that is gone are stale at once; those of others after their time."""
        stale = [path for path in self._root.rglob(f".*{DRAFT}") if _is_stale(path, older_than)]
        for path in stale:
            path.unlink(missing_ok=True)
            if path.parent != self._root:
                self._drop_if_empty(path.parent)
        return len(stale)

    def _walk(self, start: Path) -> Iterator[StoredObject]:
        for directory, _, names in os.walk(start):
            for name in names:
                path = Path(directory, name)
                if not (name.startswith(".") and name.endswith(DRAFT)):
                    with suppress(FileNotFoundError):  # removed by someone else since it was listed
                        yield StoredObject(key=path.relative_to(self._root).as_posix(), bytes=path.stat().st_size)

    @contextmanager
    def _drafted(self, key: str, data: bytes | None = None) -> Iterator[Path]:
        """A name beside the key's, with `data` in it where it is given; nothing of it stays, whatever happens."""
        target = self._root / key
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{target.name}.{_HOST}-{os.getpid()}-{threading.get_ident()}{DRAFT}")
        try:
            if data is not None:
                with draft.open("wb") as writer:
                    writer.write(data)
                    _sync(writer)
            yield draft
        finally:
            draft.unlink(missing_ok=True)

    def _drop_if_empty(self, directory: Path) -> None:
        """Drafts of dead processes are all that a directory may still hold to count as empty."""
        with suppress(OSError):  # not empty yet, or gone
            for path in directory.glob(f".*{DRAFT}"):
                if _is_stale(path, STALE_DRAFT):
                    path.unlink()
            directory.rmdir()

    def _publish(self, draft: Path, key: str) -> None:
        target = self._root / key
        draft.replace(target)
        _sync_directory(target.parent)

    def _explained(self, operation: str, key: str) -> _Explained:
        return _Explained(f"cannot {operation} {self.uri(key)}")


def _is_stale(path: Path, older_than: float) -> bool:
    with suppress(FileNotFoundError):
        if time.time() - path.stat().st_mtime > older_than:
            return True
        host, _, rest = path.name.removesuffix(DRAFT).rpartition(".")[2].partition("-")
        pid = rest.partition("-")[0]
        return (
            host == _HOST
            and pid.isdigit()
            and int(pid) != os.getpid()
            and not Path(f"/proc/{pid}").exists()
            and Path("/proc/self").exists()
        )
    return False


class _Explained:
    """Turns OSError into the store's errors. A full disk or a stale mount may heal, wrong rights will not."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, OSError):
            return
        reason = f"{self._what}: {error.strerror or error}."
        if isinstance(error, FileNotFoundError):
            raise MissingError(reason) from error
        if isinstance(error, (PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError)):
            raise StoreRefusedError(
                f"{reason} Give the agent's user the right to read and write there, or change checkpoint.destination."
            ) from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFullError(f"{reason} Free space there; it is retried.") from error
        raise StoreUnreachableError(f"{reason} Free space there or restore the mount; it is retried.") from error


def _copy(source: Path, target: Path) -> Digest:
    """Copied, synced and hashed in one pass."""
    hasher, size = hashlib.sha256(), 0
    with source.open("rb") as reader, target.open("wb") as writer:
        while block := reader.read(BLOCK):
            hasher.update(block)
            size += writer.write(block)
        _sync(writer)
    return Digest(bytes=size, sha256=hasher.hexdigest())


def _sync(writer: IO[bytes]) -> None:
    """What Python still holds in its buffer goes to the disk too."""
    writer.flush()
    os.fsync(writer.fileno())


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
