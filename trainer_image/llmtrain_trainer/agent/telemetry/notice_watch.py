"""Passes on what preparation and ranks noted: an event the first time, and in the status from then on."""

from __future__ import annotations

from llmtrain_trainer.agent.telemetry.board import Board, Events
from llmtrain_trainer.run_dir.layout import RunDir
from llmtrain_trainer.run_dir.notices import told


class NoticeWatch:
    """Looks at notices.jsonl of the run directory when its size has changed."""

    def __init__(self, run: RunDir, events: Events, board: Board) -> None:
        self._run, self._events, self._board = run, events, board
        self._size = 0

    def look(self) -> None:
        """Pass on what is new."""
        size = self._run.notices.stat().st_size if self._run.notices.exists() else 0
        if size == self._size:
            return
        self._size = size
        before, now = self._board.status.notices, told(self._run)
        self._board.update(notices=now)
        for sentence in now:
            if sentence not in before:
                self._events.record("notice", sentence)
