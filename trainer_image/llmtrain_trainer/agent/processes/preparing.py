"""The agent's processes that read data: started, retried if that may help, and judged."""

from __future__ import annotations

import builtins
import json
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from llmtrain_trainer.agent.outcome import StoppedError, UnfitError
from llmtrain_trainer.agent.processes import oom_killer
from llmtrain_trainer.agent.processes.preparation import CACHE
from llmtrain_trainer.agent.processes.ranks import fork
from llmtrain_trainer.agent.telemetry.board import Events
from llmtrain_trainer.config import ExitCode
from llmtrain_trainer.config.tables.failures import RANK_FAILURES, RankFailureKind, verdict_for
from llmtrain_trainer.run_dir.layout import RunDir, write_atomically

TRIES = 3
"""Of a process that was killed, or whose source did not answer."""

_PAUSE = (1.0, 5.0, 20.0, 60.0)
"""Seconds before a retry."""

_FAULTS = (signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)
"""By which a library ends on what it cannot read; another try meets the same."""

_ENTRY = "llmtrain_trainer.agent.processes.preparation:{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The reason and message of a failed preparation."""

    reason: str
    message: str
    code: ExitCode = ExitCode.RANK_FAILED

    tries: int = 1
    """Number of tries before this is the verdict."""


def ending(code: int, words: Mapping[str, Any] | None, *, oom_killed: bool, log: Path) -> Ending:
    """From exit code (negative for a signal) and last words; `oom_killed`: the OOM killer ended a process meanwhile."""
    said_last = _last_line(log)
    if words is None:
        if oom_killed and code == -signal.SIGKILL:
            return _starved(f"the OOM killer ended it{f' (its last line: {said_last})' if said_last else ''}")
        how = f"killed by {_name(-code)}" if code < 0 else f"ended with code {code} and without an error message"
        how += f" (its last line: {said_last})" if said_last else ""
        if -code in _FAULTS:
            message = f"Preparation was {how}. This happened twice; see {log}."
            return Ending(reason="PreparationFailed", message=message, code=ExitCode.CONFIG, tries=2)
        return Ending(reason="PreparationFailed", message=f"Preparation was {how}; see {log}.", tries=TRIES)
    kind, said = words["kind"], str(words["message"])
    if kind in ("data", "config"):
        return _of_kind(kind, said)
    if kind == "oom":
        return _starved(said)
    if kind == "unreachable":
        return Ending(reason="PreparationFailed", message=f"Preparation failed: {said}", tries=TRIES)
    message = f"Preparation failed: {words['type']}: {said}"
    if kind == "peer" or _is_of_the_system(words["type"]):
        return Ending(reason="PreparationFailed", message=message, tries=TRIES)
    # An unexpected error: if it comes again at once, it is deterministic.
    message = f"{message.rstrip('.')}. This happened twice; see {log}."
    return Ending(reason="PreparationFailed", message=message, code=ExitCode.CONFIG, tries=2)


def _last_line(log: Path) -> str:
    """What it was at when nobody could say more."""
    if not log.is_file():
        return ""
    lines = log.read_text(errors="replace").splitlines()
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")


def _starved(how: str) -> Ending:
    way_out = "Give the node more memory (spec.resources.memory), or shorter documents."
    return _of_kind("oom", f"Preparation ran out of memory: {how.rstrip('.')}. {way_out}")


def _of_kind(kind: RankFailureKind, message: str) -> Ending:
    """An end without a retry."""
    verdict = verdict_for(RANK_FAILURES[kind].reason, message)
    return Ending(reason=verdict.reason, message=message, code=ExitCode(verdict.exit_code))


def _is_of_the_system(name: str) -> bool:
    """Whether an error's type is OSError or one of its kinds: a disk that is full now need not be full later."""
    kind = getattr(builtins, name, None)
    return isinstance(kind, type) and issubclass(kind, OSError)


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def prepare(run: RunDir, cache: Path, events: Events, stopping: Callable[[], bool], look: Callable[[], None]) -> None:
    """Fill run.prepared in a process of its own. `look` is called while it works. Raises UnfitError with its sentence, StoppedError."""
    log, turn = run.logs / "prepare.log", 0
    while True:
        run.prepare_error.unlink(missing_ok=True)
        killed_before, turn = oom_killer.kills(), turn + 1
        code = _await(fork(_ENTRY.format("main"), run.root, {CACHE: str(cache)}, log), stopping, look)
        if code == 0:
            return
        words = json.loads(run.prepare_error.read_text()) if run.prepare_error.exists() else None
        end = ending(code, words, oom_killed=oom_killer.kills() > killed_before, log=log)
        if turn >= end.tries:
            raise UnfitError(end.reason, end.message, end.code)
        events.record("prepare_retry", f"{end.message.rstrip('.')}. It is retried.", tries=turn)
        _pause(turn, stopping)


def _await(process: BaseProcess, stopping: Callable[[], bool], look: Callable[[], None]) -> int:
    while process.exitcode is None:
        if stopping():
            process.kill()
            raise StoppedError
        look()
        time.sleep(0.05)
    look()
    return process.exitcode


def _pause(turn: int, stopping: Callable[[], bool]) -> None:
    until = time.monotonic() + _PAUSE[min(turn, len(_PAUSE)) - 1]
    while time.monotonic() < until:
        if stopping():
            raise StoppedError
        time.sleep(0.05)


class Streamer:
    """Keeps the process that reads streaming datasets ahead of the ranks; where it does not come back, the ranks are told why."""

    def __init__(self, run: RunDir, events: Events) -> None:
        self._run, self._events = run, events
        self._closed = threading.Event()
        self._process = self._fork()
        threading.Thread(target=self._keep, name="streamer", daemon=True).start()

    def close(self) -> None:
        """End the process."""
        self._closed.set()
        self._process.kill()

    def _fork(self) -> BaseProcess:
        self._run.stream_error.unlink(missing_ok=True)
        return fork(_ENTRY.format("stream"), self._run.root, {}, self._run.logs / "stream.log")

    def _keep(self) -> None:
        from llmtrain_trainer.data.chunks import FAILED

        turn = 0
        while not self._closed.wait(0.2):
            code = self._process.exitcode
            if code is None:
                continue
            if code == 0 or (self._run.prepared / FAILED).exists():
                return
            turn += 1
            why = self._why(code)
            if turn > len(_PAUSE):
                write_atomically(self._run.prepared / FAILED, json.dumps({"message": why}))
                return
            self._events.record("stream_retry", f"Streaming stopped: {why.rstrip('.')}. It is retried.", tries=turn)
            if self._closed.wait(_PAUSE[turn - 1]):
                return
            self._process = self._fork()

    def _why(self, code: int) -> str:
        if self._run.stream_error.exists():
            return str(json.loads(self._run.stream_error.read_text())["message"])
        return f"its process was killed by {_name(-code)}." if code < 0 else f"its process ended with code {code}."
