"""The uploader in a thread of its own, off the training path."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping
from typing import Any

from llmtrain_trainer.agent.outcome import DisownedError, EndedError, FencedError
from llmtrain_trainer.agent.stop import Stop
from llmtrain_trainer.agent.telemetry.board import Board, Events
from llmtrain_trainer.agent.telemetry.metrics import AgentMetrics
from llmtrain_trainer.checkpoint.manifest import Name, RankPart
from llmtrain_trainer.checkpoint.owner import Claim
from llmtrain_trainer.checkpoint.store.errors import StoreError, StoreFullError
from llmtrain_trainer.checkpoint.store.store import Store
from llmtrain_trainer.checkpoint.uploader import Uploader
from llmtrain_trainer.config import CheckpointStatus, TrainerConfig
from llmtrain_trainer.run_dir.layout import RunDir

_POLL_SECONDS = 0.3
_AFTER_AN_ERROR = 5.0
_FULL_SECONDS = 120.0
"""How long a finished training waits for space in a full store: usually nobody frees any."""

_GIVEN_UP = {"checkpoint_rejected": "rejected", "checkpoint_superseded": "superseded"}
"""Kind of event -> result of the save."""


class Uploads:
    """Polls the uploader until `close`; shows every commit on the board."""

    def __init__(
        self,
        config: TrainerConfig,
        run: RunDir,
        store: Store,
        node_rank: int,
        events: Events,
        board: Board,
        metrics: AgentMetrics,
        claim: Claim | None = None,
    ) -> None:
        assert config.checkpoint is not None
        self._attempt, self._destination, self._claim = config.job.attempt, config.checkpoint.destination, claim
        first = node_rank * config.mesh.procs_per_node
        self._board, self._metrics, self._events = board, metrics, events
        self._uploader = Uploader(
            run.staging,
            store,
            node_rank,
            config.mesh.nodes,
            range(first, first + config.mesh.procs_per_node),
            config.checkpoint.keep,
            config.checkpoint.keep_every_steps,
            self._on_event,
            attempt=config.job.attempt,
            claim=claim,
        )
        self._staging, self._node_rank = run.staging, node_rank
        self._shown: CheckpointStatus | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="uploads", daemon=True)
        self._thread.start()

    @property
    def last(self) -> CheckpointStatus | None:
        """The newest committed checkpoint."""
        return self._uploader.last

    @property
    def fenced(self) -> EndedError | None:
        """On node 0: whether another run or a later attempt now writes here."""
        if self._claim is not None and self._claim.lost_to is not None:
            return DisownedError(self._claim.lost_to, self._destination)
        newest = self._uploader.superseded_by
        return FencedError(self._attempt, newest, self._destination) if newest is not None else None

    @property
    def outage(self) -> StoreError | None:
        """The last error of the store while it is unreachable."""
        return self._uploader.outage

    def hear(self, row: Mapping[str, Any]) -> None:
        """A row of events.jsonl of this node: a committed checkpoint that was found bad is not counted among those that are kept."""
        name = Name.parse(str(row.get("name", "")))
        if row.get("kind") == "checkpoint_rejected" and row.get("committed", True) and name is not None:
            self._uploader.distrust(name)

    def settle(self, seconds: float) -> None:
        """Wait a moment for finished saves to be committed, before a restart chooses among the committed ones."""
        self._uploader.drain(seconds)
        self._show()

    def settle_without(self, gone: Collection[int], seconds: float) -> None:
        """Like `settle` after some nodes are lost: wait only for saves whose parts from those nodes were uploaded."""
        if self._uploader.abandon(gone, seconds):
            self._uploader.drain(seconds)
        self._show()

    def drain(self, seconds: float, stop: Stop) -> bool:
        """Wait until all finished saves are committed; False if the timeout or the grace period of a stop expired."""
        began = time.monotonic()
        while not self._uploader.drain(0.5):
            limit = min(seconds, _FULL_SECONDS) if isinstance(self.outage, StoreFullError) else seconds
            if time.monotonic() - began > limit or stop.expired() or self.fenced is not None:
                return False
        self._show()
        return True

    def close(self) -> None:
        """End the thread after its current poll."""
        self._closed.set()
        self._thread.join(timeout=5.0)

    def _work(self) -> None:
        while not self._closed.wait(_POLL_SECONDS):
            try:
                self._uploader.poll()
                self._show()
            except Exception as error:  # a failed upload does not stop training; it is reported and retried
                self._events.record("upload_failed", f"An upload failed and is retried: {type(error).__name__}: {error}")
                self._closed.wait(_AFTER_AN_ERROR)

    def _on_event(self, row: Mapping[str, Any]) -> None:
        self._events(row)
        result = _GIVEN_UP.get(row.get("kind", ""))
        if result is not None:
            self._metrics.given_up(result)

    def _show(self) -> None:
        last = self._uploader.last
        if last is not None and last != self._shown:
            self._shown = last
            self._time(last)
            if self._node_rank == 0:
                self._metrics.committed(last)
            self._board.update(checkpoint=last)

    def _time(self, last: CheckpointStatus) -> None:
        """Record how long this node's disk and the store took; nothing if an earlier run made the save and it is gone."""
        markers = list((self._staging / last.name).glob("rank-*.json"))
        if markers:
            self._metrics.saved(max(RankPart.model_validate_json(marker.read_bytes()).seconds for marker in markers))
            self._metrics.uploaded(max(0.0, last.committed_at - max(marker.stat().st_mtime for marker in markers)))
