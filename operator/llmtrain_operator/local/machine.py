"""The resources of this machine. Does not import torch, which would take seconds."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from contextlib import ExitStack

from llmtrain_trainer.config.listen import listeners


def gpu_count() -> int:
    """GPUs that the driver lists; 0 without a driver."""
    if shutil.which("nvidia-smi") is None:
        return 0
    answer = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False, timeout=30)
    return sum(line.startswith("GPU ") for line in answer.stdout.splitlines()) if answer.returncode == 0 else 0


def memory_bytes() -> int:
    """Memory of the machine in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def core_count() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_ports(count: int) -> list[int]:
    """Different ports on which nothing listens at any loopback address."""
    with ExitStack() as sockets:
        return [_first(sockets, listeners("localhost", 0)).getsockname()[1] for _ in range(count)]


def _first(held: ExitStack, made: list[socket.socket]) -> socket.socket:
    for one in made:
        held.enter_context(one)
    return made[0]
