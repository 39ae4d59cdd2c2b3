"""Numbers as the report writes them. A missing number is a dash."""

from __future__ import annotations

import time

from llmtrain_trainer.config import Progress
from llmtrain_trainer.config.formats import UNKNOWN, loss


def clock_text(moment: float) -> str:
    """Time of day, UTC."""
    return time.strftime("%H:%M:%S", time.gmtime(moment))


def loss_text(row: Progress | None) -> str:
    """Loss of a row with three decimals."""
    if row is None:
        return UNKNOWN
    return loss(row.loss)


def percent(share: float | None) -> str:
    """0.412 -> 41.2%."""
    return UNKNOWN if share is None else f"{share:.1%}"


def ratio_text(measured: float | None, planned: float | None) -> str:
    """Measured as a share of planned."""
    return UNKNOWN if not planned or measured is None else f"{measured / planned:.0%}"
