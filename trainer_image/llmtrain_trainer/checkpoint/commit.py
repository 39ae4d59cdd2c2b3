"""Node 0's part of the protocol: join what the nodes sent, look at it again, seal it, and let old checkpoints go. Called by uploader."""

from __future__ import annotations

import time

from llmtrain_trainer.checkpoint.errors import BadCheckpointError, MissingError
from llmtrain_trainer.checkpoint.manifest import COMMIT, MANIFEST, Commit, Manifest, Name, NodePart, commit_of, encode, join, node_file
from llmtrain_trainer.checkpoint.retention import expired
from llmtrain_trainer.checkpoint.staging import Staged
from llmtrain_trainer.checkpoint.store import Store, delete_prefix

STALE_UPLOAD = 86_400.0
"""Seconds after which an unfinished multipart upload is taken for dead; far beyond any clock skew."""


class Committer:
    """One on node 0. Raises StoreError when the store fails; each method can then be called again."""

    def __init__(self, store: Store, nodes: int, keep: int, keep_every_steps: int | None) -> None:
        self._store, self._nodes, self._keep, self._keep_every_steps = store, nodes, keep, keep_every_steps
        self._parts: dict[tuple[str, int], NodePart] = {}
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
        """What a node sent of a save, read once; None where it has not."""
        key = staged.save_id, node
        if key not in self._parts:
            data = read_or_none(self._store, f"{staged.name}/{node_file(node)}")
            part = NodePart.model_validate_json(data) if data is not None else None
            if part is None or part.save_id != staged.save_id:
                return None
            self._parts[key] = part
        return self._parts[key]

    def retain(self, busy: set[Name]) -> None:
        """Delete what newer, committed checkpoints made superfluous. To be called after a commit only."""
        found: dict[Name, bool] = {}
        for entry in self._store.entries():
            head, _, tail = entry.key.partition("/")
            if name := Name.parse(head):
                found[name] = found.get(name, False) or tail == COMMIT
        for name in expired(found, keep=self._keep, keep_every_steps=self._keep_every_steps, busy=busy):
            delete_prefix(self._store, f"{name}/", first=f"{name}/{COMMIT}")
        if not self._swept:
            self._store.abort_stale_uploads(STALE_UPLOAD)
            self._swept = True

    def _gather(self, staged: Staged) -> list[NodePart] | None:
        parts: list[NodePart] = []
        for node in range(self._nodes):
            part = self.part(staged, node)
            if part is None:
                return None
            parts.append(part)
        return parts

    def _recheck(self, name: Name, manifest: Manifest, data: bytes) -> None:
        """What the store lists must be what was sent. Raises BadCheckpointError."""
        sizes = {entry.key: entry.bytes for entry in self._store.entries(f"{name}/")}
        for file in manifest.files:
            found = sizes.get(f"{name}/{file.path}", "no")
            if found != file.bytes:
                raise BadCheckpointError(f"{name}/{file.path} has {found} bytes in the store, its node sent {file.bytes}")
        if self._store.get_bytes(f"{name}/{MANIFEST}") != data:
            raise BadCheckpointError(f"{name}/{MANIFEST} was changed by another run")


def read_or_none(store: Store, key: str) -> bytes | None:
    """A small object, or None where there is none."""
    try:
        return store.get_bytes(key)
    except MissingError:
        return None
