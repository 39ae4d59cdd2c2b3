"""The run directory, through which agent and ranks of a node communicate: one file per fact. Does not import torch.

<root>/config.json              the TrainerConfig
       prepared/                tokenizer, tokenised data, model files: written once, before the ranks start
       resume.json              which checkpoint the ranks load; absent: start from step 0. Written by the agent before each start
       restore/<name>/          that checkpoint's files, verified
       staging/<name>/          shards written by this node's ranks, then uploaded by the agent
       heartbeat/rank-<r>.json  rewritten by each rank
       metrics.jsonl            Progress rows, appended by rank 0
       events.jsonl             what happened: restarts, commits, faults, appended by the agent
       notices.jsonl            what a person must know although training continues (notices.py)
       errors/rank-<r>.json     last error of a failed rank; errors/prepare.json: of the preparation
       errors/diverged.txt      why the ranks ended training that diverged
       preparing.txt            what preparation is doing
       stop                     its presence asks the ranks to save and stop
       logs/                    stdout and stderr of the ranks
       port.json                {host, port, pid} of the agent's HTTP server
       termination.json         the verdict
       export/  report/         written at the end
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any


@dataclass(frozen=True, slots=True)
class RunDir:
    """Paths of the files; creates nothing."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "config.json"

    @property
    def prepared(self) -> Path:
        return self.root / "prepared"

    @property
    def resume(self) -> Path:
        return self.root / "resume.json"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.jsonl"

    @property
    def events(self) -> Path:
        return self.root / "events.jsonl"

    @property
    def notices(self) -> Path:
        return self.root / "notices.jsonl"

    @property
    def preparing(self) -> Path:
        return self.root / "preparing.txt"

    @property
    def stop(self) -> Path:
        return self.root / "stop"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def termination(self) -> Path:
        return self.root / "termination.json"

    @property
    def export(self) -> Path:
        return self.root / "export"

    @property
    def report(self) -> Path:
        return self.root / "report"

    @property
    def staging(self) -> Path:
        return self.root / "staging"

    @property
    def restore(self) -> Path:
        return self.root / "restore"

    def heartbeat(self, rank: int) -> Path:
        return self.root / "heartbeat" / f"rank-{rank}.json"

    def error(self, rank: int) -> Path:
        return self.root / "errors" / f"rank-{rank}.json"

    @property
    def prepare_error(self) -> Path:
        return self.root / "errors" / "prepare.json"

    @property
    def diverged(self) -> Path:
        return self.root / "errors" / "diverged.txt"

    @property
    def stream_error(self) -> Path:
        return self.root / "errors" / "stream.json"

    @property
    def port(self) -> Path:
        return self.root / "port.json"


def write_atomically(path: Path, text: str) -> None:
    """Write text so that a reader sees either the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.replace(path)


def append_row(path: Path, row: str) -> None:
    """Append one line in a single write, so that lines of several writers do not mix. An incomplete line before it is ended first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b", buffering=0) as file:
        file.write((b"\n" if _ends_torn(file) else b"") + row.encode() + b"\n")


def _ends_torn(file: IO[bytes]) -> bool:
    if file.seek(0, os.SEEK_END) == 0:
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a .jsonl file. An incomplete last line is skipped, even if its end is written meanwhile; so is an incomplete line of a
    writer that died."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return  # reading further would yield the rest of this line as a line
            if (row := parse_row(line)) is not None:
                yield row


def parse_row(line: bytes) -> dict[str, Any] | None:
    """The row of one line of a .jsonl file; None if the line is incomplete."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None
