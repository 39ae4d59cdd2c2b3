"""Restores a checkpoint from the store to a directory that the engine can load: chooses it and verifies its files.

The newest checkpoint of which every byte was read and compared is chosen.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from llmtrain_trainer.checkpoint.manifest import COMMIT, MANIFEST, CheckpointFile, Manifest, Name, read_manifest
from llmtrain_trainer.checkpoint.newest import NEWEST, recorded_newest
from llmtrain_trainer.checkpoint.pickles import INDEX, is_pickle, refuse_code
from llmtrain_trainer.checkpoint.store.errors import (
    BadCheckpointError,
    CheckpointsGoneError,
    MissingError,
    NoneVerifiesError,
    ResumeError,
    StoreUnreachableError,
)
from llmtrain_trainer.checkpoint.store.store import Digest, Store, describe_mismatch, digest_file, read_or_none, side_by_side, verify_object

Event = Callable[[dict[str, Any]], None]
T = TypeVar("T")

_DOUBT_PAUSE = 2.0
"""Seconds between two reads of an implausible answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A checkpoint from a listing. Its files were read only if `verified`."""

    name: Name
    sizes: dict[str, int]
    """Bytes by file name."""

    verified: bool = False
    """Every file was read and compared."""

    @property
    def step(self) -> int:
        return self.name.step

    @property
    def committed(self) -> bool:
        return COMMIT in self.sizes

    @property
    def bytes(self) -> int:
        return sum(self.sizes.values())


def list_checkpoints(store: Store) -> list[Found]:
    """All checkpoints, committed or not, newest first, from one listing. See `Found.committed`."""
    sizes: dict[Name, dict[str, int]] = {}
    for entry in store.entries():
        head, _, tail = entry.key.partition("/")
        if name := Name.parse(head):
            sizes.setdefault(name, {})[tail] = entry.bytes
    return [Found(name=name, sizes=sizes[name]) for name in sorted(sizes, reverse=True)]


def find(store: Store, name: str) -> Found:
    """One checkpoint by its name, for the nodes that did not choose. Raises ResumeError."""
    parsed = Name.parse(name)
    sizes = _sizes(store, parsed) if parsed is not None else {}
    if parsed is None or not sizes:
        raise ResumeError(f"There is no checkpoint {name} in {store.uri()}.")
    return Found(name=parsed, sizes=sizes)


def next_round(store: Store, attempt: int) -> int:
    """The first round that no checkpoint of this attempt has: a name is never written twice, and a later round is newer."""
    return max((found.name.round + 1 for found in list_checkpoints(store) if found.name.attempt == attempt), default=0)


def next_attempt(store: Store) -> int:
    """The first attempt that is newer than every checkpoint there."""
    return max((found.name.attempt + 1 for found in list_checkpoints(store)), default=0)


def choose(
    store: Store, resume: Literal["latest", "none"] | int, event: Event, into: Path | None = None, skip: Collection[str] = ()
) -> Found | None:
    """The checkpoint to resume from, verified; None: from the start.

    resume: as `checkpoint.resume` of the manifest. event: told of each checkpoint that is passed over, with the reason. into: keep
    what is read there, so that `fetch` into the same directory needs not download it again. skip: names that are not to be chosen.
    Implausible content is read again for `store.patience` seconds, over all checkpoints together.
    Raises ResumeError when a given step cannot be had, NoGoodCheckpointError when some were committed and none is good,
    StoreUnreachableError when the store cannot be read.
    """
    if resume == "none":
        return None
    there = [found for found in believed(store, event) if str(found.name) not in skip]
    wanted = [found for found in there if resume in ("latest", found.step)]
    good, reasons = first_good(wanted, store, event, into)
    if good is not None:
        return good
    if resume == "latest":
        if reasons:
            raise NoneVerifiesError(store.uri(), reasons)
        return None
    have = ", ".join(str(found.name) for found in there if found.committed) or "none"
    raise ResumeError(
        f"checkpoint.resume is {resume}, but {store.uri()} has no good checkpoint of that step. "
        f"Committed there: {have}. Give one of their steps, or latest."
    )


def believed(store: Store, event: Event) -> list[Found]:
    """The checkpoints in the store. A listing without a committed one is read again if newest.json names one: a proxy or a cache may have
    answered instead of the store, and training would begin at step 0.

    Raises StoreUnreachableError or CheckpointsGoneError when it stays so for `store.patience` seconds.
    """
    until = time.monotonic() + store.patience
    while True:
        found = list_checkpoints(store)
        if any(one.committed for one in found) or (newest := recorded_newest(store)) is None:
            return found
        if time.monotonic() >= until:
            raise _none_listed(store, newest)
        told = (
            f"{store.uri()} lists no committed checkpoint, but {NEWEST} there names {newest}. It is read again for up to "
            f"{store.patience:.0f} s: something may answer in its place."
        )
        event({"time": time.time(), "kind": "checkpoint_doubted", "message": told})
        time.sleep(max(0.0, min(_DOUBT_PAUSE, until - time.monotonic())))


def _none_listed(store: Store, newest: Name) -> Exception:
    """Why a listing lacks the checkpoint that was committed last."""
    if read_or_none(store, f"{newest}/{COMMIT}") is None:
        return CheckpointsGoneError(store.uri(), str(newest), NEWEST)
    message = f"{store.uri()} lists no committed checkpoint, but {newest}/{COMMIT} can be read there: its listing is not to be believed."
    return StoreUnreachableError(message)


def first_good(candidates: Iterable[Found], store: Store, event: Event, into: Path | None) -> tuple[Found | None, list[str]]:
    """The first that verifies, in the given order, and why each committed one before it does not; `event` is called for each of these.

    Raises StoreError when the store cannot be read.
    """
    doubts, reasons = Doubts(store, event), list[str]()
    for found in candidates:
        try:
            return doubts.settle(found, lambda found: _verified(found, store, into)), reasons
        except BadCheckpointError as error:
            reasons += [str(error)] if found.committed else []
            message = f"{error}. Passed over."
            facts = {"step": found.step, "name": str(found.name), "committed": found.committed, "message": message}
            event({"time": time.time(), "kind": "checkpoint_rejected", **facts})
    return None, reasons


class Doubts:
    """Reads implausible answers again until the patience is used up: a proxy or a cache may have answered instead of the store."""

    def __init__(self, store: Store, event: Event) -> None:
        self._store, self._event = store, event
        self._until: float | None = None

    def settle(self, found: Found, act: Callable[[Found], T]) -> T:
        """The result of `act` on the checkpoint. Raises BadCheckpointError if it stays bad."""
        while True:
            try:
                return act(found)
            except (BadCheckpointError, MissingError) as error:
                if not self._may_be_a_lie(found) or not self._wait(error):
                    raise BadCheckpointError(str(error).rstrip(".")) from error
            sizes = _sizes(self._store, found.name)
            found = replace(found, sizes=sizes or found.sizes)

    def _may_be_a_lie(self, found: Found) -> bool:
        """Whether to read it again: it is committed by the listing, or its COMMIT can be read although the listing lacks it."""
        if self._store.patience == 0.0:
            return False
        return found.committed or bool(read_or_none(self._store, f"{found.name}/{COMMIT}"))

    def _wait(self, error: Exception) -> bool:
        """Wait before the next read; False once the patience, counted from the first doubt, is used up."""
        now = time.monotonic()
        if self._until is None:
            self._until = now + self._store.patience
            message = (
                f"{str(error).rstrip('.')}. It is read again for up to {self._store.patience:.0f} s: something may answer in its place."
            )
            self._event({"time": time.time(), "kind": "checkpoint_doubted", "message": message})
        time.sleep(max(0.0, min(_DOUBT_PAUSE, self._until - now)))
        return now < self._until


def obtain(store: Store, name: str, into: Path, event: Event) -> tuple[Found, Path]:
    """One checkpoint by its name, fetched and verified. Raises ResumeError, BadCheckpointError, StoreError."""
    parsed = Name.parse(name)
    if parsed is None:
        raise ResumeError(f"There is no checkpoint {name} in {store.uri()}.")

    def act(found: Found) -> tuple[Found, Path]:
        if not found.sizes:
            raise BadCheckpointError(f"There is no checkpoint {name} in {store.uri()}")
        return found, fetch(found, store, into)

    return Doubts(store, event).settle(Found(name=parsed, sizes=_sizes(store, parsed)), act)


def _sizes(store: Store, name: Name) -> dict[str, int]:
    return {entry.key.partition("/")[2]: entry.bytes for entry in store.entries(f"{name}/")}


def read(found: Found, store: Store) -> Manifest:
    """The manifest, checked against COMMIT and against the listing. Raises BadCheckpointError."""
    if not found.committed:
        raise BadCheckpointError(f"{found.name} has no {COMMIT}: its upload did not end")
    try:
        manifest = read_manifest(str(found.name), *(store.get_bytes(f"{found.name}/{file}") for file in (COMMIT, MANIFEST)))
    except MissingError as error:
        raise BadCheckpointError(f"{found.name} has no {MANIFEST}") from error
    for file in manifest.files:
        if file.path not in found.sizes:
            raise BadCheckpointError(f"{found.name} lacks {file.path}")
        if found.sizes[file.path] != file.bytes:
            raise BadCheckpointError(f"{found.name}/{file.path} has {found.sizes[file.path]} bytes, its manifest says {file.bytes}")
    return manifest


def verify(found: Found, store: Store) -> Found:
    """Read and compare every byte, and check every pickle. Raises BadCheckpointError."""
    manifest = read(found, store)
    with tempfile.TemporaryDirectory(prefix="verify-") as directory:
        place = Path(directory, str(found.name))
        place.mkdir()

        def look(file: CheckpointFile) -> None:
            kept = place / file.path if is_pickle(file.path) else None
            verify_object(store, f"{found.name}/{file.path}", _digest(file), into=kept)

        _each(manifest, look)
        refuse_code(place, [file.path for file in manifest.files])
    return replace(found, verified=True)


def fetch(found: Found, store: Store, into: Path, staging: Path | None = None) -> Path:
    """The checkpoint as a local directory into/<name>, every file verified; older ones beside it are removed.

    A file that is already there, or in `staging` (default: beside `into`) because this node wrote it, is used if its digest is right; but
    a store that is a local directory is judged by what it holds, and linked to. Raises BadCheckpointError, StoreError.
    """
    manifest = read(found, store)
    directory = into / str(found.name)
    own = (staging or into.parent / "staging") / str(found.name)
    directory.mkdir(parents=True, exist_ok=True)
    _each(manifest, lambda file: _obtain(file, found, store, directory / file.path, own / file.path))
    refuse_code(directory, [file.path for file in manifest.files])
    (directory / MANIFEST).write_bytes(store.get_bytes(f"{found.name}/{MANIFEST}"))
    for other in into.iterdir():
        if other != directory and Name.parse(other.name):
            shutil.rmtree(other, ignore_errors=True)
    return directory


def _verified(found: Found, store: Store, into: Path | None) -> Found:
    if into is None:
        return verify(found, store)
    fetch(found, store, into)
    return replace(found, verified=True)


def _obtain(file: CheckpointFile, found: Found, store: Store, target: Path, own: Path) -> None:
    expected = _digest(file)
    if _is(target, expected):
        return
    target.unlink(missing_ok=True)
    key = f"{found.name}/{file.path}"
    local = store.local(key)
    if local is None and _is(own, expected) and not file.path.endswith(INDEX):
        _link(own, target)
    elif local is None or file.path.endswith(INDEX):  # an index is copied, because the target of a link could be changed later
        verify_object(store, key, expected, into=target)
    else:
        if not found.verified and (got := digest_file(local)) != expected:
            raise BadCheckpointError(describe_mismatch(store.uri(key), got, expected))
        _link(local, target)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        target.symlink_to(source.resolve())


def _is(path: Path, expected: Digest) -> bool:
    return path.is_file() and path.stat().st_size == expected.bytes and digest_file(path) == expected


def _digest(file: CheckpointFile) -> Digest:
    return Digest(bytes=file.bytes, sha256=file.sha256)


def _each(manifest: Manifest, act: Callable[[CheckpointFile], None]) -> None:
    """Several files at once; the first error is raised."""
    with side_by_side() as pool:
        futures = [pool.submit(act, file) for file in manifest.files]
        try:
            for future in futures:
                future.result()
        finally:
            for future in futures:
                future.cancel()
