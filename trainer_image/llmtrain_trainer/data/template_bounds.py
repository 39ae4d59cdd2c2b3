"""Bounds on what a template may take: it is a program, and that of a chat comes with a tokenizer that anybody may have made."""

from __future__ import annotations

import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

SECONDS = 20.0
"""Of the processor's time, for one conversation. A long one takes milliseconds."""

MEMORY = 2 << 30
"""Bytes beside what the process has."""


class TooLongError(Exception):
    """It is not done within its time."""


class _StopError(BaseException):
    """The same inside: no Exception, since Jinja continues after one in a constant."""


@contextmanager
def bounded(seconds: float = SECONDS, memory: int = MEMORY) -> Iterator[None]:
    """Raises TooLongError or MemoryError where what runs here takes more, RuntimeError on another thread than the main one: signals of a
    timer reach that one alone, so a template has no bounds elsewhere."""
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("a template runs on the main thread alone, where its time is bounded")
    before = signal.signal(signal.SIGVTALRM, _raise)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = _mapped() + memory
    resource.setrlimit(resource.RLIMIT_AS, (most if soft == resource.RLIM_INFINITY else min(most, soft), hard))
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    except _StopError:
        raise TooLongError(f"it takes more than {SECONDS:g} s of the processor's time") from None
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGVTALRM, before)


def _raise(_: int, __: FrameType | None) -> None:
    raise _StopError


def _mapped() -> int:
    """Bytes of address space that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
