"""The resources of this machine. Does not import torch, which would take seconds."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from llmtrain_trainer.config.listen import bound


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


@contextmanager
def reserved_ports(count: int) -> Iterator[list[int]]:
    """Different ports of the loopback addresses, for servers that start in the block. On Linux nobody else is given them meanwhile."""
    with ExitStack() as held:
        ports = [_first(held, bound("localhost")).getsockname()[1] for _ in range(count)]
        if sys.platform != "linux":  # elsewhere a port that is bound cannot be listened on by another process
            held.close()
        yield ports


def _first(held: ExitStack, made: list[socket.socket]) -> socket.socket:
    for one in made:
        held.enter_context(one)
    return made[0]
