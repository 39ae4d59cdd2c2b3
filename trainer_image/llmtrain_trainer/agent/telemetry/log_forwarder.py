"""Repeats what ranks and preparation write to their logs on the agent's standard output, so that a pod's log shows every rank of its node.
 A line of logs/rank-3.log comes out as
`[rank 3] ...`, one of logs/prepare.log as `[prepare] ...`; lines without such a mark are the agent's own: what happened, and on node 0 how
far training is.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from llmtrain_trainer.agent.telemetry.board import RowTail
from llmtrain_trainer.config import Progress
from llmtrain_trainer.run_dir.layout import RunDir

LOOK_SECONDS = 0.25
STEP_SECONDS = 10.0
"""A line on the newest step this often; metrics.jsonl has them all."""

MOST_BYTES = 1 << 20
"""Of one file in one look, so that a rank that floods its log holds up no other."""

LONGEST_LINE = 16_384
"""Container runtimes cut lines there as well; what waits for its end is let go at this length."""


class LogForwarder:
    """Follows logs/*.log and metrics.jsonl from where they end now. `write` takes whole lines as bytes."""

    def __init__(self, run: RunDir, write: Callable[[bytes], object] = lambda text: os.write(1, text)) -> None:
        self._logs, self._write = run.logs, write
        self._read = {path: path.stat().st_size for path in run.logs.glob("*.log")}
        self._rows = RowTail(run.metrics)
        self._newest: Progress | None = None
        self._next_step = 0.0
        self._rest: dict[Path, bytes] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="log-forwarder", daemon=True)

    def start(self) -> None:
        """Follow until `close`."""
        self._thread.start()

    def close(self) -> None:
        """Say what is left, half lines too."""
        self._over.set()
        self._thread.join()
        while self.look():
            pass
        for path, rest in self._rest.items():
            if rest:
                self._write(_marked(path, [rest]))
        self._next_step = 0.0
        self._say_step()

    def look(self) -> bool:
        """Repeat what is new; True where there was something."""
        repeated = [self._repeat(path) for path in sorted(self._logs.glob("*.log"))]
        self._say_step()
        return any(repeated)

    def _follow(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            self.look()

    def _say_step(self) -> None:
        *_, self._newest = (self._newest, *self._rows.new_rows())
        if self._newest is not None and time.monotonic() >= self._next_step:
            self._write(_step_line(self._newest).encode())
            self._newest, self._next_step = None, time.monotonic() + STEP_SECONDS

    def _repeat(self, path: Path) -> bool:
        with path.open("rb") as file:
            file.seek(self._read.get(path, 0))
            new = file.read(MOST_BYTES)
        self._read[path] = self._read.get(path, 0) + len(new)
        *lines, rest = (self._rest.get(path, b"") + new).split(b"\n")
        if len(rest) > LONGEST_LINE:
            lines, rest = [*lines, rest], b""
        self._rest[path] = rest
        if lines:
            self._write(_marked(path, lines))
        return bool(new)


def _step_line(row: Progress) -> str:
    mfu = f", MFU {row.mfu:.1%}" if row.mfu is not None else ""
    return f"step {row.step} of {row.target_steps}, loss {_loss(row)}, {row.tokens_per_second:,.0f} tokens/s{mfu}\n"


def _loss(row: Progress) -> str:
    return "not finite" if row.loss is None else f"{row.loss:.4f}"


def _marked(path: Path, lines: list[bytes]) -> bytes:
    """With the mark in front; of a line that was drawn over, such as a progress bar, only its last state."""
    mark = f"[{path.stem.replace('-', ' ')}] ".encode()
    return b"".join(mark + line.rstrip(b"\r").rpartition(b"\r")[2] + b"\n" for line in lines)
