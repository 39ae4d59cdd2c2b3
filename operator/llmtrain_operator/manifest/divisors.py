"""The divisors of a number, and lists of numbers in sentences."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

LONGEST_LIST = 24
"""Most items that a sentence lists."""


@lru_cache(maxsize=1024)
def divisors(number: int) -> tuple[int, ...]:
    """All divisors in ascending order."""
    small = [n for n in range(1, int(number**0.5) + 1) if number % n == 0]
    return tuple(small + [number // n for n in reversed(small) if n * n != number])


def listed(items: Iterable[object], last: str = "or") -> str:
    """The items as text, such as `1, 2 or 4`."""
    words = [str(item) for item in items]
    if len(words) > LONGEST_LIST:
        words = [*words[: LONGEST_LIST - 2], "...", words[-1]]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"
