"""Directories made once and kept by content: their name is a digest of all that shapes them. Called by preparation and streaming."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

DONE = "done.json"
"""In every finished directory: its files and their sizes."""


def digest(*parts: object) -> str:
    """A short name for these values; parts must be what json can write."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def build_once(final: Path, build: Callable[[Path], None]) -> Path:
    """The directory `final`, built by `build(draft)` unless it is whole already.

    One process builds, others wait for it. A draft becomes visible by one rename; a directory whose files lack or have another size
    than when it was finished is made again.
    """
    with locked(final.with_name(f"{final.name}.lock")):
        if is_whole(final):
            return final
        draft = final.with_name(f"{final.name}.draft")
        for leftover in (draft, final):
            shutil.rmtree(leftover, ignore_errors=True)
        draft.mkdir(parents=True)
        build(draft)
        _finish(draft, final)
    return final


def link(target: Path, name: Path) -> None:
    """A symbolic link `name` to `target`, put in place of whatever link stood there."""
    name.parent.mkdir(parents=True, exist_ok=True)
    draft = name.with_name(f".{name.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    draft.symlink_to(target.resolve())
    draft.replace(name)


def _finish(draft: Path, final: Path) -> None:
    """Make a draft the real thing, all at once."""
    (draft / DONE).write_text(json.dumps({"files": _sizes(draft)}))
    for path in draft.rglob("*"):
        if path.is_file():
            _sync(path)
    draft.replace(final)


def is_whole(directory: Path) -> bool:
    """Whether it was finished and its files still have the sizes of then."""
    try:
        told = json.loads((directory / DONE).read_text())["files"]
    except (FileNotFoundError, ValueError, KeyError):
        return False
    return bool(told == _sizes(directory))


def _sizes(directory: Path) -> dict[str, int]:
    return {str(p.relative_to(directory)): p.stat().st_size for p in sorted(directory.rglob("*")) if p.is_file() and p.name != DONE}


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a file lock that ends with this process however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
