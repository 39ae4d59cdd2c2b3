"""What the agent knows of itself, for /status and /metrics. Written by node.py, supervisor and uploader thread; read by the HTTP thread."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llmtrain_trainer.config import Heartbeat, NodeStatus, Progress
from llmtrain_trainer.run_dir.layout import RunDir, append_row, parse_row


class Board:
    """One frozen NodeStatus, replaced whole."""

    def __init__(self, status: NodeStatus) -> None:
        self._status = status
        self._lock = threading.Lock()

    @property
    def status(self) -> NodeStatus:
        """The newest."""
        return self._status

    def update(self, **changes: Any) -> None:
        """Replace fields of NodeStatus."""
        with self._lock:
            self._status = self._status.model_copy(update=changes)


class Events:
    """Appends rows to events.jsonl and says their message on standard output."""

    def __init__(self, run: RunDir, prefix: str, listen: Callable[[Mapping[str, Any]], None] = lambda _: None) -> None:
        """`listen` is told of every row."""
        self._path, self._prefix, self._listen = run.events, prefix, listen

    def __call__(self, row: Mapping[str, Any]) -> None:
        self._listen(row)
        append_row(self._path, json.dumps({"time": time.time(), **row}))
        if row.get("message"):
            print(f"{self._prefix}{row['message']}\n", end="", flush=True)  # in one write: another thread repeats the ranks' lines

    def record(self, kind: str, message: str, **facts: Any) -> None:
        """One row; facts that are None are left out."""
        self({"kind": kind, "message": message, **{name: fact for name, fact in facts.items() if fact is not None}})


class RowTail:
    """New rows of metrics.jsonl since the last look; a row that is half written comes with the next look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = path.stat().st_size if path.exists() else 0

    def new_rows(self) -> list[Progress]:
        """In the order written."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                text = file.read()
        except FileNotFoundError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [Progress.model_validate(row) for line in whole.splitlines() if (row := parse_row(line)) is not None]


def read_heartbeats(run: RunDir) -> list[Heartbeat]:
    """The newest heartbeat of every rank of this node that wrote one."""
    beats = []
    for path in sorted((run.root / "heartbeat").glob("rank-*.json")):
        try:
            beats.append(Heartbeat.model_validate_json(path.read_text()))
        except FileNotFoundError:  # cleared for a new round while we looked
            continue
    return sorted(beats, key=lambda beat: beat.rank)
