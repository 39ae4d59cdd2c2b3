"""Seconds since the epoch <-> RFC 3339, and durations as text."""

from __future__ import annotations

from datetime import UTC, datetime

_LAST = 253_402_300_799  # 9999-12-31T23:59:59Z


def seconds_of(text: object) -> float | None:
    """Seconds since the epoch; None if the text is not a valid time."""
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def text_of(seconds: float) -> str:
    """RFC 3339 in UTC, whole seconds, as Kubernetes writes it: 2026-01-31T12:00:00Z. What is no time becomes the nearest that is one."""
    return datetime.fromtimestamp(int(min(max(0, seconds), _LAST)), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def span(seconds: float) -> str:
    """Seconds as text: 48 -> 48s, 125 -> 2m05s, 7380 -> 2h03m, 180000 -> 2d02h."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3600:02d}h"
