"""The identity of a process, by which another one on the same machine can see whether it has ended."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

import psutil

from llmtrain_trainer.checkpoint.manifest import Written

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/pid")


class Process(Written):
    """Which process of which machine."""

    host: str
    machine: str
    """Boot id of the machine, and its PID namespace; empty if the system does not tell."""

    pid: int
    started: float
    """Start time of the process by the machine's clock, because process numbers are reused."""

    def lives(self) -> bool | None:
        """Whether the process still runs; None if it is on another machine, or in another PID namespace."""
        if not self.machine or self.machine != _machine():
            return None
        try:
            return bool(abs(psutil.Process(self.pid).create_time() - self.started) < 1.0)
        except psutil.NoSuchProcess:
            return False


def here() -> Process:
    """The identity of this process."""
    return Process(host=socket.gethostname(), machine=_machine(), pid=os.getpid(), started=psutil.Process().create_time())


def _machine() -> str:
    with suppress(OSError):
        return f"{_BOOT.read_text().strip()} {_NAMESPACE.readlink()}"
    return ""
