"""Ends processes whose parent has died."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Ask the kernel for SIGKILL when the parent (process id `parent`) dies; exit at once if it is dead already.

    The signal comes when the parent's *thread* that started us ends, so start processes from a main thread. Linux only; elsewhere
    nothing happens.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "prctl"):
        return
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def reap(known: set[int]) -> None:
    """Collect children that ended: what PID 1 owes to processes whose own parents are gone. `known` ones are left to who started them."""
    import psutil

    for child in psutil.Process().children():
        if child.pid in known or child.status() != psutil.STATUS_ZOMBIE:
            continue
        try:
            os.waitpid(child.pid, os.WNOHANG)
        except ChildProcessError:
            continue
