"""Questions to the trainer that are asked in a process of its own, since the operator imports none of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class TrainerError(RuntimeError):
    """A command of the trainer failed; holds its exit code and its last words."""

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
    """Make report.html and loss.png in `out`; returns the page."""
    more = [part for node in nodes if node != run_dir for part in ("--node-dir", str(node))]
    _ask(["report", "--run-dir", str(run_dir), *more, "--out", str(out)])
    return out / "report.html"


def convert(config: Path, source: tuple[str, str], target: tuple[str, str], step: int | None, work: Path | None) -> str:
    """Weights from one place and format to another, each (URI, format); returns the sentence that says what was written."""
    arguments = ["convert", "--config", str(config), "--from", source[0], "--from-format", source[1], "--to", target[0]]
    more = [*(("--step", str(step)) if step is not None else ()), *(("--work", str(work)) if work is not None else ())]
    return _ask([*arguments, "--to-format", target[1], *more]).strip().splitlines()[-1]


def _ask(arguments: Sequence[str], accept: tuple[int, ...] = (0,)) -> str:
    answer = subprocess.run([sys.executable, "-m", "llmtrain_trainer", *arguments], capture_output=True, text=True, check=False)
    if answer.returncode not in accept:
        raise TrainerError(answer.returncode, _last_words(answer) or f"llmtrain_trainer {arguments[0]} ended with code {answer.returncode}")
    return answer.stdout


def _last_words(answer: subprocess.CompletedProcess[str]) -> str:
    """The sentence of a failed command: {"error": ...} where it speaks JSON, else its last line."""
    lines = [*answer.stdout.strip().splitlines()[-1:], *answer.stderr.strip().splitlines()[-1:]]
    try:
        return str(json.loads(answer.stdout)["error"])
    except (ValueError, KeyError, TypeError):
        return lines[-1] if lines else ""
