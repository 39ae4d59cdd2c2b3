"""Node 0's part of the protocol: join the parts of all nodes, check them again, commit, and delete old checkpoints."""

from __future__ import annotations

import time
from collections.abc import Mapping

from llmtrain_trainer.checkpoint.manifest import (
    COMMIT,
    MANIFEST,
    Commit,
    Manifest,
    Name,
    NodePart,
    commit_of,
    diverged,
    encode,
    join,
    node_file,
)
from llmtrain_trainer.checkpoint.restore import find, verify
from llmtrain_trainer.checkpoint.retention import expired, for_room
from llmtrain_trainer.checkpoint.staging import Staged
from llmtrain_trainer.checkpoint.store.errors import BadCheckpointError
from llmtrain_trainer.checkpoint.store.store import Store, delete_prefix, read_or_none

STALE_UPLOAD = 86_400.0
"""Seconds after which an unfinished multipart upload counts as dead; far beyond any clock skew."""


class Committer:
    """Exists on node 0 only. Raises StoreError when the store fails; each method can then be called again."""

    def __init__(self, store: Store, nodes: int, keep: int, keep_every_steps: int | None) -> None:
        self._store, self._nodes, self._keep, self._keep_every_steps = store, nodes, keep, keep_every_steps
        self._parts: dict[tuple[str, int], NodePart] = {}
        self._diverged: dict[Name, bool] = {}
        self._verified: Name | None = None
        self.distrusted: set[Name] = set()
        """Committed checkpoints that this run found bad: retention does not count them."""

        self._swept = False

    def seal(self, staged: Staged) -> tuple[Commit, int] | None:
        """Commit a save whose parts are all in the store; None while one is missing. Returns COMMIT and the size in bytes.

        Raises BadCheckpointError when the store does not hold what was sent, or another run committed this name.
        """
        parts = self._gather(staged)
        if parts is None:
            return None
        now = time.time()
        manifest = join(staged.name, staged.meta(), parts, created=now)
        data = encode(manifest)
        self._store.put_bytes(f"{staged.name}/{MANIFEST}", data)
        self._recheck(staged.name, manifest, data)
        commit = commit_of(manifest, data, now)
        if not self._store.put_if_absent(f"{staged.name}/{COMMIT}", encode(commit)):
            raise BadCheckpointError(f"{staged.name} was committed by another run meanwhile")
        return commit, manifest.bytes

    def part(self, staged: Staged, node: int) -> NodePart | None:
        """The part of a save that a node uploaded, read once; None if it has not uploaded it yet."""
        key = staged.save_id, node
        if key not in self._parts:
            data = read_or_none(self._store, f"{staged.name}/{node_file(node)}")
            part = NodePart.model_validate_json(data) if data is not None else None
            if part is None or part.save_id != staged.save_id:
                return None
            self._parts[key] = part
        return self._parts[key]

    def retain(self, busy: set[Name]) -> None:
        """Delete checkpoints that newer committed ones replace. Call it only after a commit."""
        found = self._found()
        gone = expired(found, keep=self._keep, keep_every_steps=self._keep_every_steps, busy=busy, doubtful=self._doubtful(found))
        for name in gone:
            # A listing may have omitted COMMIT: a checkpoint that looks incomplete is read once more before it is deleted.
            if found[name] or read_or_none(self._store, f"{name}/{COMMIT}") is None:
                delete_prefix(self._store, f"{name}/", first=f"{name}/{COMMIT}")
        if not self._swept:
            self._store.abort_stale_uploads(STALE_UPLOAD)
            self._swept = True

    def make_room(self, busy: set[Name]) -> Name | None:
        """If the store is full: delete the oldest checkpoint that may be deleted before the next commit. None: none may.

        The newest good one is verified in full first, because the run then depends on it alone.
        """
        self._store.abort_stale_uploads(STALE_UPLOAD)
        found = self._found()
        garbage = (name for name, sealed in found.items() if not sealed and name not in busy and name < max(busy, default=name))
        for name in sorted(garbage):
            if read_or_none(self._store, f"{name}/{COMMIT}") is None:
                delete_prefix(self._store, f"{name}/", first=f"{name}/{COMMIT}")
                return name
        doubtful = self._doubtful(found)
        good = [name for name, sealed in found.items() if sealed and name not in doubtful]
        oldest = for_room(found, keep_every_steps=self._keep_every_steps, doubtful=doubtful)
        if oldest is None:
            return None
        if self._verified != max(good):
            verify(find(self._store, str(max(good))), self._store)
            self._verified = max(good)
        delete_prefix(self._store, f"{oldest}/", first=f"{oldest}/{COMMIT}")
        return oldest

    def _found(self) -> dict[Name, bool]:
        found: dict[Name, bool] = {}
        for entry in self._store.entries():
            head, _, tail = entry.key.partition("/")
            if name := Name.parse(head):
                found[name] = found.get(name, False) or tail == COMMIT
        return found

    def _doubtful(self, found: Mapping[Name, bool]) -> set[Name]:
        """Checkpoints that were committed while training diverged, or were found bad."""
        for name, sealed in found.items():
            if sealed and name not in self._diverged:
                data = read_or_none(self._store, f"{name}/{MANIFEST}")
                self._diverged[name] = data is None or diverged(data)
        return self.distrusted | {name for name, bad in self._diverged.items() if bad}

    def _gather(self, staged: Staged) -> list[NodePart] | None:
        parts: list[NodePart] = []
        for node in range(self._nodes):
            part = self.part(staged, node)
            if part is None:
                return None
            parts.append(part)
        return parts

    def _recheck(self, name: Name, manifest: Manifest, data: bytes) -> None:
        """Compare the store's listing with the uploaded parts. Raises BadCheckpointError."""
        sizes = {entry.key: entry.bytes for entry in self._store.entries(f"{name}/")}
        for file in manifest.files:
            found = sizes.get(f"{name}/{file.path}", "no")
            if found != file.bytes:
                raise BadCheckpointError(f"{name}/{file.path} has {found} bytes in the store, its node sent {file.bytes}")
        if self._store.get_bytes(f"{name}/{MANIFEST}") != data:
            raise BadCheckpointError(f"{name}/{MANIFEST} was changed by another run")
