"""Calls of the trainer's commands in a separate process, since the operator does not import the trainer."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TRAINER = (sys.executable, "-P", "-m", "llmtrain_trainer")
"""-P: a directory of the user's that is called like a package, such as datasets, must not be imported in its place."""


class TrainerError(RuntimeError):
    """A command of the trainer failed; has its exit code and its error message."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        super().__init__(message)


def checkpoints(verb: str, destination: str, names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """`list` or `verify` of a destination, newest first.

    A bad checkpoint is a row with a problem, not an error.
    A row holds name, step, attempt, round, bytes, files, committed, created, verified and problem.
    """
    answer = _ask(["checkpoints", verb, "--destination", destination, "-o", "json", *names], accept=(0, 1))
    found: list[dict[str, Any]] = json.loads(answer)
    return found


def write_report(run_dir: Path, nodes: Sequence[Path], out: Path) -> Path:
    """Write report.html and loss.png into `out`; returns the path of the page."""
    more = [part for node in nodes if node != run_dir for part in ("--node-dir", str(node))]
    _ask(["report", "--run-dir", str(run_dir), *more, "--out", str(out)])
    return out / "report.html"


def convert(config: Path, source: tuple[str, str], target: tuple[str, str], step: int | None, work: Path | None) -> str:
    """Convert weights between two (URI, format) pairs; returns one sentence on what was written. Raises TrainerError."""
    arguments = ["convert", "--config", str(config), "--from", source[0], "--from-format", source[1], "--to", target[0]]
    more = [*(("--step", str(step)) if step is not None else ()), *(("--work", str(work)) if work is not None else ())]
    return _ask([*arguments, "--to-format", target[1], *more]).strip().splitlines()[-1]


def _ask(arguments: Sequence[str], accept: tuple[int, ...] = (0,)) -> str:
    answer = subprocess.run([*TRAINER, *arguments], capture_output=True, text=True, check=False)
    if answer.returncode not in accept:
        ended = f"llmtrain_trainer {arguments[0]} ended with exit code {answer.returncode}"
        raise TrainerError(answer.returncode, _last_words(answer) or ended)
    return answer.stdout


def _last_words(answer: subprocess.CompletedProcess[str]) -> str:
    """The error message of a failed command: {"error": ...} if it prints JSON, else its last line."""
    lines = [*answer.stdout.strip().splitlines()[-1:], *answer.stderr.strip().splitlines()[-1:]]
    try:
        return str(json.loads(answer.stdout)["error"])
    except (ValueError, KeyError, TypeError):
        return lines[-1] if lines else ""
