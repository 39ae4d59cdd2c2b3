"""Seconds since the epoch <-> RFC 3339."""

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
