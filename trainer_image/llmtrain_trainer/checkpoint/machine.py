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
    """This start of the machine, and the name space of its process numbers. Empty where the system does not say."""

    pid: int
    started: float
    """When, by the machine's clock: numbers are used again."""

    def lives(self) -> bool | None:
        """None where this is another machine, or a container with process numbers of its own."""
        if not self.machine or self.machine != _machine():
            return None
        try:
            return bool(abs(psutil.Process(self.pid).create_time() - self.started) < 1.0)
        except psutil.NoSuchProcess:
            return False


def here() -> Process:
    """This one."""
    return Process(host=socket.gethostname(), machine=_machine(), pid=os.getpid(), started=psutil.Process().create_time())


def _machine() -> str:
    with suppress(OSError):
        return f"{_BOOT.read_text().strip()} {_NAMESPACE.readlink()}"
    return ""
