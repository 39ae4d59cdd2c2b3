"""Number formats of the live view and the tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from llmtrain_operator.life import times

BARS = "▁▂▃▄▅▆▇█"


def span(seconds: float | None) -> str:
    """Seconds as `life.times.span` formats them; a dash if unknown."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    return times.span(seconds)


def size(count: float | None) -> str:
    """Bytes in powers of 1024: 15728640 -> 15 MiB."""
    if count is None:
        return "-"
    for limit, unit in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count >= limit:
            return f"{count / limit:.3g} {unit}"
    return f"{count:.0f} B"


def loss(value: float | None) -> str:
    """Three decimals; `not finite` for a step whose loss was NaN or infinite."""
    return "not finite" if value is None or not math.isfinite(value) else f"{value:.3f}"


def sparkline(values: Sequence[float], width: int) -> str:
    """The curve in at most `width` characters, each the mean of an equal part of `values` [n]; values that are not finite are skipped."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    width = min(width, len(finite))
    edges = [index * len(finite) // width for index in range(width + 1)]
    means = [sum(finite[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((mean - low) * scale)] for mean in means)
