"""Numbers as the report writes them. A missing number is a dash."""

from __future__ import annotations

import time

from llmtrain_trainer.config import Progress


def amount(value: float | None) -> str:
    """1234567 -> 1.23 M."""
    if value is None:
        return "-"
    for limit, unit in ((1e12, " T"), (1e9, " B"), (1e6, " M"), (1e4, " k")):
        if abs(value) >= limit:
            return f"{value / (limit if unit != ' k' else 1e3):.3g}{unit}"
    return f"{value:,.0f}"


def bytes_text(value: float | None) -> str:
    """In powers of 1024: 1610612736 -> 1.50 GiB."""
    if value is None:
        return "-"
    for limit, unit in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if value >= limit:
            return f"{value / limit:.3g} {unit}"
    return f"{value:.0f} B"


def duration_text(seconds: float | None) -> str:
    """3725 -> 1 h 02 min."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def clock_text(moment: float) -> str:
    """Time of day, UTC."""
    return time.strftime("%H:%M:%S", time.gmtime(moment))


def loss_text(row: Progress | None) -> str:
    """Loss of a row with three decimals."""
    if row is None:
        return "-"
    return "not finite" if row.loss is None else f"{row.loss:.3f}"


def percent(share: float | None) -> str:
    """0.412 -> 41.2%."""
    return "-" if share is None else f"{share:.1%}"


def ratio_text(measured: float | None, planned: float | None) -> str:
    """Measured as a share of planned."""
    return "-" if not planned or measured is None else f"{measured / planned:.0%}"
