"""A lock that gives a workdir to one run at a time. The kernel releases it when the process ends, however it ends."""

from __future__ import annotations

import fcntl
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_FILE = ".lock"


class WorkdirInUseError(RuntimeError):
    """Another run holds the workdir."""


@dataclass(frozen=True, slots=True)
class Lock:
    """Held as long as this value lives."""

    file: IO[str]


def lock(workdir: Path) -> Lock:
    """Take the workdir, before anything in it is read or moved. Raises WorkdirInUseError, or OSError if it is not writable."""
    workdir.mkdir(parents=True, exist_ok=True)
    file = (workdir / _FILE).open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        raise WorkdirInUseError(_refusal(workdir, file.read().split())) from None
    file.truncate(0)
    file.write(f"{os.getpid()} {time.strftime('%Y-%m-%dT%H:%M:%S%z')}\n")
    file.flush()
    return Lock(file)


def _refusal(workdir: Path, said: list[str]) -> str:
    """The message. `said`: process id and time from the lock file; empty until the other run has written them."""
    pid, since = said if len(said) == 2 else ("unknown", "now")
    end = f" (kill {pid} makes it save and stop)" if pid.isdigit() else ""
    return (
        f"--workdir is {workdir}: another `llmtrain run` has used it since {since} (process {pid}), and two runs would overwrite each "
        f"other's files. Wait until it ends{end}, or give --workdir another directory."
    )
