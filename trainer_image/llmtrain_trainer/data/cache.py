"""Directories that are built once and kept: their name is a digest of their inputs."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DONE = "done.json"
"""File in every finished directory: its files with sizes, digests and file system metadata."""

NOBODY = 65534

Told = Callable[[str], None]
Read = Callable[[Path], object]
"""Reads what this version needs of a directory. Raises one of _UNREADABLE where another version wrote it."""

_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError)
"""Errors of reading what was damaged, or written by another version."""


class UntrustedCacheError(ValueError):
    """Other users can write to the cache."""


def digest(*parts: object) -> str:
    """A short name for these values, which json must be able to write."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def build_once(final: Path, build: Callable[[Path], None], told: Told = lambda _: None, read: Read = lambda _: None) -> Path:
    """The directory `final`, built by `build(draft)` unless it is complete already.

    One process builds, others wait for it. A draft becomes visible by one rename; a directory whose files are not those that it was
    finished with, or that `read` cannot read because another version wrote it, is made again, and `told` says so.
    Raises UntrustedCacheError where others can write beside it.
    """
    make_own(final.parent)
    with locked(final.with_name(f"{final.name}.lock")):
        if is_whole(final) and _is_readable(final, read):
            return final
        if final.exists():
            told(f"{final} in the cache is not as it was made (damaged, or of another version) and is made again.")
        draft = final.with_name(f"{final.name}.draft")
        for leftover in (draft, final):
            shutil.rmtree(leftover, ignore_errors=True)
        draft.mkdir(parents=True)
        build(draft)
        _finish(draft, final)
    return final


def make_own(directory: Path) -> None:
    """A directory that only its owner (this user or root) and group can write to. Raises UntrustedCacheError otherwise."""
    try:
        directory.mkdir(parents=True)
        directory.chmod(directory.stat().st_mode & ~stat.S_IWOTH)
    except FileExistsError:
        pass
    facts = directory.stat()
    ours = {os.geteuid(), 0} | ({NOBODY} if os.geteuid() == 0 else set())  # a server of files may keep root's as nobody's
    if facts.st_uid not in ours:
        raise UntrustedCacheError(_refusal(directory, f"belongs to user {facts.st_uid}, and this process is user {os.geteuid()}"))
    if facts.st_mode & stat.S_IWOTH:
        raise UntrustedCacheError(_refusal(directory, f"can be written by everybody (mode {stat.S_IMODE(facts.st_mode):o})"))


def _refusal(directory: Path, why: str) -> str:
    way_out = "Remove it, or give a cache of your own: XDG_CACHE_HOME for llmtrain run, --cache for the agent"
    return f"The cache {directory} {why}: what it holds could be anything. {way_out}."


def link(target: Path, name: Path) -> None:
    """Create a symbolic link `name` to `target`, replacing any earlier link."""
    name.parent.mkdir(parents=True, exist_ok=True)
    draft = name.with_name(f".{name.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    draft.symlink_to(target.resolve())
    draft.replace(name)


def _finish(draft: Path, final: Path) -> None:
    """Publish a draft atomically."""
    for path in _files(draft):
        _sync(path)
    told = {name: {"sha256": file_digest(path), "facts": _facts(path)} for name, path in _named(draft)}
    (draft / DONE).write_text(json.dumps({"files": told}))
    _sync(draft / DONE)
    draft.replace(final)


def is_whole(directory: Path) -> bool:
    """Whether it was finished and its files are unchanged: by inode, size and times, or else by digest."""
    try:
        told = json.loads((directory / DONE).read_text())["files"]
        here = dict(_named(directory))
        return told.keys() == here.keys() and all(_is_same(told[name], path) for name, path in here.items())
    except _UNREADABLE:
        return False


def _is_readable(directory: Path, read: Read) -> bool:
    try:
        read(directory)
    except _UNREADABLE:
        return False
    return True


def _is_same(told: dict[str, Any], path: Path) -> bool:
    facts = _facts(path)
    if told["facts"] == facts:  # the time of its last change cannot be set
        return True
    return bool(told["facts"][0] == facts[0] and told["sha256"] == file_digest(path))


def _facts(path: Path) -> list[int]:
    facts = path.stat()
    return [facts.st_size, facts.st_ino, facts.st_mtime_ns, facts.st_ctime_ns]


def _named(directory: Path) -> Iterator[tuple[str, Path]]:
    return ((str(path.relative_to(directory)), path) for path in _files(directory))


def _files(directory: Path) -> list[Path]:
    return [path for path in sorted(directory.rglob("*")) if path.is_file() and path != directory / DONE]


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a file lock that ends with this process in any case."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
