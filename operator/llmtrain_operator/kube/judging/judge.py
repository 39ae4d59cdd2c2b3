"""A separate process in which manifests are checked, so that none can block the operator or use up its memory.

It is killed and restarted if a manifest takes too long or too much memory. It has none of the operator's credentials, and ends with it.
`python -m llmtrain_operator.kube.judging.judge` reads pickled questions from standard input, each preceded by its length, and writes
pickled answers.
"""

from __future__ import annotations

import asyncio
import io
import os
import pickle
import resource
import signal
import struct
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from llmtrain_operator.kube.judging import judgement

SECONDS = 3.0
"""Seconds that one manifest may take; the slowest one that is not refused for its size takes a third of a second."""

START_SECONDS = 60.0
MEMORY = 256 << 20
"""Bytes that a check may allocate in addition to the process at its start."""

_HEAD = struct.Struct(">IB")
_KEPT = ("PATH", "PYTHONPATH", "PYTHONHASHSEED", "LANG", "LC_ALL", "HOME", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
_QUESTIONS: dict[str, Callable[..., Any]] = {"planned": judgement.planned, "reviewed": judgement.reviewed}


class NoJudgementError(Exception):
    """The check failed. The text says how, as a clause."""


class JudgeAwayError(Exception):
    """The separate process is not available now, which is not the manifest's fault."""


class Judges(Protocol):
    """Calls a function of judgement.py by its name. Raises NoJudgementError, JudgeAwayError."""

    async def start(self) -> None: ...
    async def ask(self, question: str, *given: Any) -> Any: ...
    async def close(self) -> None: ...


class Here:
    """A judge in this process, for a person's commands on their own manifests."""

    async def start(self) -> None:
        """There is nothing to start."""

    async def ask(self, question: str, *given: Any) -> Any:
        try:
            return _QUESTIONS[question](*given)
        except Exception as error:
            raise NoJudgementError(_said(error)) from error

    async def close(self) -> None:
        """There is nothing to end."""


class Judge:
    """A judge in a separate process, which answers one question at a time; further callers wait."""

    def __init__(self, seconds: float = SECONDS, memory: int = MEMORY) -> None:
        self._seconds, self._memory = seconds, memory
        self._process: Process | None = None
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """Start the process, so that the first question need not wait for it. If that fails, the next question tries again."""
        async with self._turn:
            with suppress(JudgeAwayError):
                await self._running()

    async def ask(self, question: str, *given: Any) -> Any:
        """The answer. Raises NoJudgementError if it was not given in time, or the process died."""
        try:
            sent = pickle.dumps((question, given))
        except Exception as error:  # nested beyond what can be pickled
            raise NoJudgementError(type(error).__name__) from error
        await self._turn.acquire()
        task = asyncio.create_task(self._answered(sent))
        task.add_done_callback(self._next)
        return await asyncio.shield(task)  # the caller may be cancelled: the question is still answered, and the process stays

    def _next(self, task: asyncio.Task[Any]) -> None:
        self._turn.release()
        if not task.cancelled():
            task.exception()  # the caller gets the error, if it still waits

    async def _answered(self, sent: bytes) -> Any:
        process = await self._running()
        try:
            async with asyncio.timeout(self._seconds):
                failed, answer = await _exchange(process, sent)
        except TimeoutError:
            await self._end()
            raise NoJudgementError(f"it took longer than {self._seconds:g} s") from None
        except (OSError, asyncio.IncompleteReadError, pickle.UnpicklingError):
            await self._end()
            raise NoJudgementError("the planning process ended, as happens with a manifest that is too large") from None
        except BaseException:  # a late answer would be mistaken for that of the next question
            await self._end()
            raise
        if failed:
            raise NoJudgementError(str(answer))
        return answer

    async def close(self) -> None:
        """End the process."""
        async with self._turn:
            await self._end()

    async def _running(self) -> Process:
        if self._process is None or self._process.returncode is not None:
            kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
            command = (sys.executable, "-m", "llmtrain_operator.kube.judging.judge", str(self._seconds), str(self._memory))
            try:
                self._process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, env=kept, limit=1 << 20)
                async with asyncio.timeout(START_SECONDS):
                    await _receive(self._process)
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                await self._end()
                raise JudgeAwayError("the planning process could not start") from error
        return self._process

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _exchange(process: Process, sent: bytes) -> tuple[bool, Any]:
    assert process.stdin is not None
    process.stdin.write(_HEAD.pack(len(sent), 0) + sent)
    await process.stdin.drain()
    return await _receive(process)


async def _receive(process: Process) -> tuple[bool, Any]:
    assert process.stdout is not None
    size, failed = _HEAD.unpack(await process.stdout.readexactly(_HEAD.size))
    return bool(failed), pickle.loads(await process.stdout.readexactly(size))


# ---- the separate process ------------------------------------------------------------------------------------------------


def _serve(asked: BinaryIO, answers: BinaryIO, seconds: float) -> None:
    """Answer until the operator closes the pipe. A question that takes too long ends the process, even if the operator is gone."""
    _send(answers, True, False)
    while len(head := asked.read(_HEAD.size)) == _HEAD.size:
        raw = asked.read(_HEAD.unpack(head)[0])
        signal.setitimer(signal.ITIMER_REAL, 2 * seconds)
        try:
            question, given = pickle.loads(raw)
            answer, failed = _QUESTIONS[question](*given), False
        except Exception as error:
            answer, failed = _said(error), True
        del raw
        _send(answers, answer, failed)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200].removesuffix(": ")


def _send(answers: BinaryIO, answer: Any, failed: bool) -> None:
    raw = pickle.dumps(answer)
    answers.write(_HEAD.pack(len(raw), failed) + raw)
    answers.flush()


def _limit(memory: int) -> None:
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + memory, now + memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """The process: two numbers on its command line."""
    from llmtrain_operator.manifest.parse import manifest_schema

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at a terminal is handled by the operator
    manifest_schema()
    answers = io.FileIO(os.dup(1), "w")
    os.dup2(2, 1)  # output of libraries must not mix with answers
    if sys.platform == "linux":
        _limit(int(sys.argv[2]))
    _serve(sys.stdin.buffer, io.BufferedWriter(answers), float(sys.argv[1]))


if __name__ == "__main__":
    main()
