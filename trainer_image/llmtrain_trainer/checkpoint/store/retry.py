"""Retries: exponential backoff with full jitter, until a deadline.

Full jitter (a uniform draw between 0 and the exponential bound) spreads the nodes of a gang, which all meet the same outage at once.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Seconds. The n-th wait is drawn from 0 to min(longest, first * 2**n)."""

    first: float = 0.2
    longest: float = 10.0
    deadline: float = 120.0
    """No new try starts later than this after the first one."""

    doubt: float = 90.0
    """Seconds for which implausible content (a proxy's login page, a stale cache) is read again, at most `deadline`."""


def persist(
    attempt: Callable[[], T],
    is_transient: Callable[[Exception], bool],
    backoff: Backoff,
    again: Callable[[], None] = lambda: None,
) -> T:
    """Call until it succeeds; raises the last error once it is not transient or the deadline has passed. `again`: told of each new try."""
    began, bound = time.monotonic(), backoff.first
    while True:
        try:
            return attempt()
        except Exception as error:
            wait = random.uniform(0, min(bound, backoff.longest))
            if not is_transient(error) or time.monotonic() - began + wait > backoff.deadline:
                raise
        bound *= 2
        time.sleep(wait)
        again()
