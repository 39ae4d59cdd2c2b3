"""The node's uploader: from staging to a committed checkpoint. The agent calls `poll` in a thread, about once a second.

Node 0 chooses a save and announces it (begin.json); every node uploads its own files and then node-<i>.json; node 0 joins the parts
into manifest.json, lists the store again, and writes COMMIT last (`commit`). Nodes that each chose for themselves might never meet
on one save, hence the announcement. Nothing is lost by an outage: staged saves wait, and `poll` continues where it stopped.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from llmtrain_trainer.checkpoint import staging as disk
from llmtrain_trainer.checkpoint.commit import Committer
from llmtrain_trainer.checkpoint.manifest import (
    BEGIN,
    COMMIT,
    MANIFEST,
    Begin,
    CheckpointFile,
    Commit,
    Manifest,
    Name,
    NodePart,
    encode,
    node_file,
)
from llmtrain_trainer.checkpoint.newest import record_newest
from llmtrain_trainer.checkpoint.owner import Claim
from llmtrain_trainer.checkpoint.restore import list_checkpoints
from llmtrain_trainer.checkpoint.staging import Staged
from llmtrain_trainer.checkpoint.store.errors import BadCheckpointError, StoreError, StoreFullError
from llmtrain_trainer.checkpoint.store.store import Store, read_or_none, side_by_side
from llmtrain_trainer.config import CheckpointStatus

Event = Callable[[dict[str, Any]], None]


class Uploader:
    """One per node. `poll` and `drain` may be called from different threads; a lock makes them alternate."""

    def __init__(
        self,
        staging: Path,
        store: Store,
        node_rank: int,
        nodes: int,
        local_ranks: Sequence[int],
        keep: int,
        keep_every_steps: int | None,
        event: Event,
        *,
        waiting_limit: int = 4,
        attempt: int = 0,
        claim: Claim | None = None,
    ) -> None:
        """local_ranks: global numbers of this node's ranks. waiting_limit: finished saves that may wait before newer ones replace them.
        attempt: of this gang; what an earlier one left in `staging` says nothing of it. claim: on node 0, to the destination."""
        self._claim = claim
        self._staging, self._store, self._event = staging, store, event
        self._node, self._nodes, self._ranks = node_rank, nodes, tuple(local_ranks)
        self._waiting_limit, self._attempt = waiting_limit, attempt
        self._committer = Committer(store, nodes, keep, keep_every_steps)
        self._turn = threading.Lock()
        self._drainer: threading.Thread | None = None
        self._begun: set[Name] = set()
        self._sent: dict[Name, dict[str, CheckpointFile]] = {}
        self._parted: set[Name] = set()
        self._closed: set[Name] = set()
        self._retain_due = False
        self._outage_since: float | None = None
        self.last: CheckpointStatus | None = None
        """The newest checkpoint this node knows to be committed."""

        self.outage: StoreError | None = None
        """The last error of the store while it is unreachable."""

        self.superseded_by: Name | None = None
        """On node 0: a save that a later gang began here. Set once; from then on nothing is written."""

    @property
    def fenced(self) -> bool:
        """Whether another gang or run has replaced this one, which then writes nothing more."""
        return self.superseded_by is not None or (self._claim is not None and self._claim.lost_to is not None)

    def poll(self) -> None:
        """Make all progress that is possible now. If the store fails, it records an event instead of raising; the next call retries."""
        with self._turn:
            self._poll()

    def drain(self, timeout: float) -> bool:
        """Poll until every finished save is committed; False when `timeout` seconds were not enough, or a later gang has taken over.

        The polls run in a thread of their own: a request to a store that hangs lasts longer than the grace of a stop.
        """
        deadline = time.monotonic() + timeout
        while True:
            if self._drainer is None or not self._drainer.is_alive():
                self._drainer = threading.Thread(target=self.poll, name="drain checkpoints", daemon=True)
                self._drainer.start()
            self._drainer.join(max(0.0, deadline - time.monotonic()))
            if not self._drainer.is_alive() and not self._pending():
                return True
            if time.monotonic() >= deadline or self.fenced:
                return False
            time.sleep(0.05)

    def abandon(self, gone: Collection[int], timeout: float) -> bool:
        """Give up every save that lacks the part of a node that is gone: it can never be whole. Returns whether others are left to drain.

        The store is asked for `timeout` seconds, in a thread of its own as in `drain`.
        """

        def look() -> None:
            try:
                for staged in self._pending():
                    if lacking := [node for node in gone if self._committer.part(staged, node) is None]:
                        self._closed.add(staged.name)
                        reason = f"{staged.name} is not committed: node {lacking[0]} ended without uploading its part."
                        self._tell("checkpoint_superseded", reason, name=str(staged.name), step=staged.name.step)
            except StoreError as error:
                self._store_is_away(error)

        looking = threading.Thread(target=look, name="abandon checkpoints", daemon=True)
        looking.start()
        looking.join(timeout)
        return bool(self._pending())

    def _poll(self) -> None:
        if self.fenced:
            return
        while True:
            try:
                self._work_off()
                self._store_is_back()
                return
            except StoreFullError as error:
                if not self._make_room(error):
                    self._store_is_away(error)
                    return
            except StoreError as error:
                self._store_is_away(error)
                return

    def _work_off(self) -> None:
        """Raises StoreError."""
        while True:
            self._close_what_is_whole()  # between uploads too: where saves come as fast as uploads, there is no other time
            staged = self._next()
            if staged is None:
                break
            self._advance(staged, self._upload)
        if self._retain_due and self.last is not None:
            record_newest(self._store, self.last.name)
            self._committer.retain(self._begun - self._closed)
            self._retain_due = False

    def _make_room(self, error: StoreFullError) -> bool:
        """On node 0, whose deletions are the only ones: whether something went, so that the rest may fit."""
        if self._node != 0:
            return False
        try:
            gone = self._committer.make_room(self._begun - self._closed)
        except (StoreError, BadCheckpointError):
            return False
        if gone is not None:
            self._tell("checkpoint_deleted", f"{error} To make room, {gone} is deleted before the next save is committed.", name=str(gone))
        return gone is not None

    def distrust(self, name: Name) -> None:
        """Record that a committed checkpoint is bad, so that retention no longer counts it."""
        self._committer.distrusted.add(name)

    def _pending(self) -> list[Staged]:
        """Finished saves that are neither committed nor given up, oldest first."""
        return [staged for staged in disk.finished(self._staging, self._ranks) if staged.name not in self._closed]

    def _advance(self, staged: Staged, act: Callable[[Staged], None]) -> None:
        """Carry out the next stage of one save; a bad save is given up without affecting others."""
        try:
            act(staged)
        except BadCheckpointError as error:
            self._give_up(staged.name, "checkpoint_rejected", f"{error}. It is not committed.")

    def _next(self) -> Staged | None:
        """The save to upload now: oldest first, so that all nodes serve the same order."""
        waiting = [staged for staged in self._pending() if staged.name not in self._parted]
        if self._node == 0 or self._outage_since is not None:
            waiting = self._supersede(waiting)
        return next((staged for staged in waiting if self._announced(staged)), None)

    def _supersede(self, waiting: list[Staged]) -> list[Staged]:
        """Limit waiting saves if the store is slow or unreachable: newer ones replace older ones that are not being uploaded yet."""
        if not waiting or not self._crowded(waiting):
            return waiting
        newest = waiting[-1].name
        for staged in waiting[:-1]:
            if staged.name not in self._begun:
                reason = f"{staged.name} is dropped before it was uploaded: {len(waiting)} saves wait for the store, and {newest} is newer."
                self._give_up(staged.name, "checkpoint_superseded", reason)
        return [staged for staged in waiting if staged.name not in self._closed]

    def _crowded(self, waiting: list[Staged]) -> bool:
        return len(waiting) > self._waiting_limit or shutil.disk_usage(self._staging).free < 2 * sum(waiting[-1].files.values())

    def _announced(self, staged: Staged) -> bool:
        """Whether node 0 has chosen this save; node 0 chooses it here."""
        if staged.name in self._begun:
            return True
        begin = encode(Begin(save_id=staged.save_id, nodes=self._nodes))
        if self._node != 0 and read_or_none(self._store, f"{staged.name}/{BEGIN}") != begin:
            return False
        if self._taken(staged) or self._fenced():
            return False
        if self._node == 0:
            self._store.put_bytes(f"{staged.name}/{BEGIN}", begin)
        self._begun.add(staged.name)
        return True

    def _fenced(self) -> bool:
        """Does a later gang write here? Then this one runs on only because nobody could reach it, on a node that was cut off.

        One of the same attempt with a later round counts: it was made by an operator whose memory was restored from the past.
        """
        if self._node == 0:
            newest = next(iter(list_checkpoints(self._store)), None)
            names = (*self._begun, *(staged.name for staged in self._pending()))
            own = max((self._attempt, 0), *((name.attempt, name.round) for name in names))
            if newest is not None and (newest.name.attempt, newest.name.round) > own:
                self.superseded_by = newest.name
        return self.fenced or not self._owned()

    def _owned(self) -> bool:
        """Whether the destination still belongs to this run, according to the store."""
        return self._claim is None or self._claim.holds()

    def _taken(self, staged: Staged) -> bool:
        """Whether the save is committed already, so that its files must not change."""
        if read_or_none(self._store, f"{staged.name}/{COMMIT}") is None:
            return False
        manifest = read_or_none(self._store, f"{staged.name}/{MANIFEST}")
        if manifest is not None and Manifest.model_validate_json(manifest).save_id == staged.save_id:
            self._closed.add(staged.name)  # our own, from before this agent restarted
            return True
        reason = f"{staged.name} is already committed by another run in {self._store.uri()}. Use a higher attempt or another destination."
        self._give_up(staged.name, "checkpoint_rejected", reason)
        return True

    def _upload(self, staged: Staged) -> None:
        """Upload this node's files concurrently, then its part. Files that were uploaded before an outage are not uploaded again."""
        staged.check()
        sent = self._sent.setdefault(staged.name, {})

        def send(path: str) -> None:
            digest = self._store.put_file(staged.directory / path, f"{staged.name}/{path}")
            sent[path] = CheckpointFile(path=path, bytes=digest.bytes, sha256=digest.sha256, node=self._node)

        with side_by_side() as pool:
            for future in [pool.submit(send, path) for path in staged.files if path not in sent]:
                future.result()
        part = NodePart(
            node=self._node,
            ranks=tuple(part.rank for part in staged.parts),
            world_size=staged.parts[0].world_size,
            save_id=staged.save_id,
            files=tuple(sent[path] for path in sorted(sent)),
        )
        self._store.put_bytes(f"{staged.name}/{node_file(self._node)}", encode(part))
        self._parted.add(staged.name)

    def _close_what_is_whole(self) -> None:
        for staged in self._pending():
            if staged.name in self._parted:
                self._advance(staged, self._close)

    def _close(self, staged: Staged) -> None:
        """Node 0 commits; the others wait until it has."""
        if self._node == 0:
            if self._owned() and (sealed := self._committer.seal(staged)):
                self._committed(staged.name, *sealed)
        elif data := read_or_none(self._store, f"{staged.name}/{COMMIT}"):
            self._committed(staged.name, Commit.model_validate_json(data), sum(staged.files.values()))

    def _committed(self, name: Name, commit: Commit, size: int) -> None:
        self._closed.add(name)
        self.last = CheckpointStatus(
            name=str(name), step=name.step, uri=self._store.uri(str(name)), bytes=size, committed_at=commit.committed_at
        )
        if self._node == 0:
            self._retain_due = True
            self._tell(
                "checkpoint_committed", f"{name} is committed and verified ({size} bytes).", name=str(name), step=name.step, bytes=size
            )
        # The newest committed save stays on this disk: a restart in place loads it from here instead of from the store.
        for older in [staged for staged in disk.names(self._staging) if staged < name]:
            self._forget(older)

    def _give_up(self, name: Name, kind: str, message: str) -> None:
        self._tell(kind, message, name=str(name), step=name.step)
        self._forget(name)

    def _forget(self, name: Name) -> None:
        self._closed.add(name)
        self._sent.pop(name, None)
        disk.remove(self._staging, name)

    def _store_is_away(self, error: StoreError) -> None:
        self.outage = error
        if self._outage_since is None:
            self._outage_since = time.monotonic()
            self._tell("store_outage", f"Checkpoints wait on local disk while training continues. {error}")

    def _store_is_back(self) -> None:
        if self._outage_since is not None:
            seconds = time.monotonic() - self._outage_since
            self._outage_since = self.outage = None
            self._tell("store_outage", f"The store answers again after {seconds:.0f} s.")

    def _tell(self, kind: str, message: str, **more: Any) -> None:
        self._event({"time": time.time(), "kind": kind, "message": message, **more})
