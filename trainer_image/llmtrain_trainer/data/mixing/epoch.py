"""How many samples an epoch of several datasets has. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil

from llmtrain_trainer.config.shares import whole_shares
from llmtrain_trainer.config.tables.mixing import Mixing
from llmtrain_trainer.data.mixing.order import Mixture


def epoch_samples(mixing: Mixing | None, rows: Sequence[int], weights: Sequence[float]) -> int:
    """under: until the next sample would be of a dataset that is read to its end, so that no row comes twice. over: until each dataset was
    read to its end. Otherwise as many as there are rows."""
    if mixing not in ("over", "under"):
        return sum(rows)
    drawn = Mixture(weights).counts
    quotas = whole_shares(weights)
    most = max(ceil((count + 2) * sum(quotas) / quota) for count, quota in zip(rows, quotas, strict=True))
    if mixing == "over":
        return _first(most, lambda samples: all(count >= whole for count, whole in zip(drawn(samples), rows, strict=True)))
    return _first(most, lambda samples: any(count > whole for count, whole in zip(drawn(samples), rows, strict=True))) - 1


def _first(most: int, holds: Callable[[int], bool]) -> int:
    """The first number of samples up to `most` for which it holds; it holds for all that follow."""
    low, high = 0, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
