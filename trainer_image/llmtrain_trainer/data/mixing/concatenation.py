"""All datasets shuffled as one: every epoch has each row once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmtrain_trainer.data.mixing.order import Ints, permute

KEY = (1 << 32) - 1
"""Of the permutations of the whole; datasets have small numbers."""

AT_ONCE = 1 << 20
"""Positions that are counted at once."""


class Concatenation:
    """A permutation of all rows for each epoch, computed and never held."""

    def __init__(self, rows: Sequence[int], seed: int) -> None:
        self._rows, self._seed = np.array(rows, dtype=np.int64), seed
        self._ends = np.cumsum(self._rows)
        self._total = int(self._ends[-1])

    def at(self, consumed: Ints) -> tuple[Ints, Ints]:
        """(dataset, one of its samples) of each 0-based position. Every epoch has each sample of a dataset's epoch once."""
        epochs, within = np.divmod(consumed, self._total)
        places = np.empty_like(within)
        for epoch in np.unique(epochs).tolist():
            of_epoch = epochs == epoch
            places[of_epoch] = permute(within[of_epoch], self._total, (self._seed, KEY, epoch))
        datasets = np.searchsorted(self._ends, places, side="right")
        return datasets, epochs * self._rows[datasets] + places - (self._ends - self._rows)[datasets]

    def counts(self, consumed: int) -> list[int]:
        """How many of the first `consumed` samples come from each dataset."""
        epochs, some = divmod(consumed, self._total)
        found = epochs * self._rows
        for start in range(0, some, AT_ONCE):
            places = np.arange(start, min(some, start + AT_ONCE), dtype=np.int64) + epochs * self._total
            found = found + np.bincount(self.at(places)[0], minlength=len(self._rows))
        counts: list[int] = found.tolist()
        return counts
