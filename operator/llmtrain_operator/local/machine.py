"""What this machine has. Called by run.py. Asks without importing torch, which would take seconds."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


def gpu_count() -> int:
    """GPUs that the driver lists; 0 without a driver."""
    if shutil.which("nvidia-smi") is None:
        return 0
    answer = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False, timeout=30)
    return sum(line.startswith("GPU ") for line in answer.stdout.splitlines()) if answer.returncode == 0 else 0


def memory_bytes() -> int:
    """Memory of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def core_count() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_ports(count: int) -> list[int]:
    """Ports on the loopback that nobody listens on, all different."""
    with ExitStack() as sockets:
        return [sockets.enter_context(_bound()).getsockname()[1] for _ in range(count)]


@contextmanager
def _bound() -> Iterator[socket.socket]:
    with socket.socket() as open_socket:
        open_socket.bind(("127.0.0.1", 0))
        yield open_socket
