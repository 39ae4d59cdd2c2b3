"""Waiting for what a cluster does in its own time. Used by the tests of this package."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(holds: Callable[[], bool], what: str, seconds: float = 120, every: float = 0.2) -> None:
    """Wait for something; look every so many seconds. Fails with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(every)
