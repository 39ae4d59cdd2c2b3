"""Bytes, durations, counts and losses as people read them: one way each, for plan, live view, status, report and messages."""

from __future__ import annotations

import math
from typing import TypeGuard

UNKNOWN = "-"


def size(count: float | None) -> str:
    """Bytes in powers of 1024 with one decimal: 512 -> 512 B, 15728640 -> 15.0 MiB, 41983000000 -> 39.1 GiB."""
    if not _is_known(count):
        return UNKNOWN
    value, units = count, ["B", "KiB", "MiB", "GiB", "TiB"]
    while abs(value) >= (1023.95 if units[0] != "B" else 1023.5) and len(units) > 1:
        value, units = value / 1024, units[1:]
    return f"{value:.0f} B" if units[0] == "B" else f"{value:.1f} {units[0]}"


def amount(count: float | None) -> str:
    """A count in three digits above 10,000: 2048 -> 2,048, 45300 -> 45.3k, 8030261248 -> 8.03B."""
    if not _is_known(count):
        return UNKNOWN
    if abs(count) < 9999.5:
        return f"{count:,.0f}"
    value, units = count / 1e3, ["k", "M", "B", "T"]
    while abs(value) >= 999.5 and len(units) > 1:
        value, units = value / 1e3, units[1:]
    return f"{value:.3g}{units[0]}" if abs(value) < 999.5 else f"{value:,.0f}{units[0]}"


def span(seconds: float | None) -> str:
    """Seconds: 48 -> 48s, 125 -> 2m05s, 7380 -> 2h03m, 180000 -> 2d02h."""
    if not _is_known(seconds):
        return UNKNOWN
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3600:02d}h"


def loss(value: float | None) -> str:
    """Three decimals; `not finite` for a step whose loss was NaN or infinite."""
    return f"{value:.3f}" if _is_known(value) else "not finite"


def _is_known(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)
