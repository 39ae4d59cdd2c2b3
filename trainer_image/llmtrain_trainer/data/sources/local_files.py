"""Files of a path on this machine: a file, a directory with everything below it, or a glob."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from llmtrain_trainer.config.mounts import root_of
from llmtrain_trainer.data.sources.files import DataFile, UnfitFileError, unfit

KERNEL = ("/proc", "/sys", "/dev", "/run/secrets")
"""What lies here is no data: the system's own figures, devices, and what a pod's identity is proven with."""

MARKS = "*?["


@dataclass(slots=True)
class Local:
    """What was found below a path."""

    files: list[DataFile] = field(default_factory=list)
    passed: dict[str, str] = field(default_factory=dict)
    """What was passed over, with the reason."""


def local_files_of(path: str) -> Local:
    """Sorted by name; hidden ones are left out. Raises UnfitFileError where `path` itself is something that is not read, and OSError."""
    found = Local()
    accepted: Callable[[str], bool]
    if os.path.lexists(path):
        root, accepted, asked = path.rstrip("/") or "/", _everything, False
        if not Path(path).is_dir():
            found.files.append(_file(path, PurePosixPath(path).name, asked=True))
            return found
    else:
        root, pattern = literal_start(path, lambda start: Path(start).is_dir())
        accepted, asked = matcher(pattern), is_specific(pattern)
    if not Path(root).is_dir():
        return found
    taken = dict[tuple[str, ...], str]()
    below = [(path, name) for path, name in _names(found, Path(root)) if accepted(name)]
    for path, name in sorted(below, key=lambda entry: (Path(entry[0]).is_symlink(), entry[1])):
        _take(found, taken, path, name, asked)
    found.files.sort(key=lambda file: file.name)
    return found


def literal_start(path: str, is_directory: Callable[[str], bool]) -> tuple[str, str]:
    """The part of a path that is there as it is written, marks and all, and the glob that remains ("" where there is no mark)."""
    parts = path.split("/")
    for count in range(len(parts) - 1, 0, -1):
        start = "/".join(parts[:count]) or "/"
        marked = any(mark in part for part in parts[:count] for mark in MARKS)
        if not marked or is_directory(start):
            rest = "/".join(parts[count:])
            return (start, rest) if marked or any(mark in rest for mark in MARKS) else (path, "")
    return path, ""


def is_specific(pattern: str) -> bool:
    """Whether a glob asks for files of some name: *.md does, * and ** do not."""
    return bool(pattern.rpartition("/")[2].strip("*"))


def matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a name below the glob's start matches it, or lies in a directory that does."""
    if not pattern:
        return lambda _: False
    from fsspec.utils import glob_translate

    expression = re.compile(glob_translate(pattern))
    return lambda name: any(expression.match(start) for start in _starts(name))


def _starts(name: str) -> Iterator[str]:
    parts = name.split("/")
    return ("/".join(parts[: count + 1]) for count in range(len(parts)))


def _everything(_: str) -> bool:
    return True


def _names(found: Local, root: Path) -> Iterator[tuple[str, str]]:
    """(path, name) of everything below but directories; those behind links are entered too, each once, so a link to a parent ends."""
    entered = set[tuple[int, int]]()
    waiting = [(root, "")]
    while waiting:
        directory, name = waiting.pop()
        facts = directory.stat()
        if (facts.st_dev, facts.st_ino) in entered:
            found.passed[name] = "a link to a directory that is read already"
            continue
        entered.add((facts.st_dev, facts.st_ino))
        for entry in os.scandir(directory):
            inside = f"{name}/{entry.name}" if name else entry.name
            if entry.name.startswith("."):
                continue
            if Path(entry.path).is_dir() and _outside(entry.path) is None:
                waiting.append((Path(entry.path), inside))
            else:
                yield entry.path, inside


def _take(found: Local, taken: dict[tuple[str, ...], str], path: str, name: str, asked: bool) -> None:
    try:
        file = _file(path, name, asked=asked)
    except FileNotFoundError:
        found.passed[shown(name)] = "a link to nothing"
        return
    except UnfitFileError as error:
        found.passed[shown(name)] = str(error).removeprefix("it ").removeprefix("is ")
        return
    if Path(path).is_symlink() and file.identity in taken:
        found.passed[shown(name)] = f"a link to {taken[file.identity]}, which is read already"
        return
    taken[file.identity] = file.name
    found.files.append(file)


def _file(path: str, name: str, *, asked: bool) -> DataFile:
    """Raises UnfitFileError for what is no regular file, or leads where no data is; FileNotFoundError for a link to nothing."""
    if (reason := _outside(path)) is not None:
        raise UnfitFileError(reason)
    try:
        facts = Path(path).stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UnfitFileError("it is a link that leads to itself") from error
        raise
    if (reason := unfit(facts)) is not None:
        raise UnfitFileError(reason)
    identity = identity_of(path)
    return DataFile(uri=f"file://{shown(path)}", name=shown(name), identity=identity, size=facts.st_size, asked=asked, local=Path(path))


def identity_of(path: str) -> tuple[str, ...]:
    """Of the file behind a path. Its times can be set, its inode and change time cannot: a copy put in its place is told from it."""
    facts = Path(path).stat()
    numbers = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
    return (os.path.realpath(path), *map(str, numbers))


def _outside(path: str) -> str | None:
    """Why a path leads where no data of this source can be; None where it does not."""
    real = PurePosixPath(os.path.realpath(path))
    if any(real.is_relative_to(place) for place in KERNEL) and not real.is_relative_to("/dev/shm"):
        return f"it leads to {real}, which is no data"
    claim = root_of(path)
    if claim is not None and not real.is_relative_to(os.path.realpath(claim)):
        return f"it leads out of the claim, to {real}"
    return None


def shown(text: str) -> str:
    """A name as it can be printed: bytes that are no UTF-8 and control characters are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def in_words(names: Sequence[str], most: int = 5) -> str:
    """a, b and 3 more."""
    some = ", ".join(names[:most])
    return some if len(names) <= most else f"{some} and {len(names) - most} more"
