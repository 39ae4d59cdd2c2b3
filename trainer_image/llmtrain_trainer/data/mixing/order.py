"""Which row is the k-th consumed sample: a pure function of (seed, k), so any layout and any resume see the same stream.

Two steps, both O(1) in k: `Mixture` says which dataset the k-th sample comes from and how many of that dataset came before it;
`shuffled` turns that ordinal into a row of the dataset's current epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from math import lcm

import numpy as np
from numpy.typing import NDArray

from llmtrain_trainer.config.shares import whole_shares

Ints = NDArray[np.int64]


class Mixture:
    """A periodic schedule of datasets. After any k samples each dataset's count is within 1 of k times its share."""

    def __init__(self, weights: Sequence[float]) -> None:
        """A dataset of weight 0 is never drawn from."""
        drawn: Ints = np.flatnonzero(weights).astype(np.int64)
        quotas = whole_shares([weights[i] for i in drawn.tolist()])
        choices, self._before = interleave(quotas)
        self._choices = drawn[choices]
        self._quotas = np.zeros(len(weights), dtype=np.int64)
        self._quotas[drawn] = quotas

    def at(self, consumed: Ints) -> tuple[Ints, Ints]:
        """(dataset, how many samples of that dataset were consumed before) of each 0-based position in the stream."""
        period, position = np.divmod(consumed, len(self._choices))
        datasets = self._choices[position]
        return datasets, period * self._quotas[datasets] + self._before[position]

    def counts(self, consumed: int) -> list[int]:
        """How many of the first `consumed` samples come from each dataset."""
        period, position = divmod(consumed, len(self._choices))
        some = np.bincount(self._choices[:position], minlength=len(self._quotas))
        counts: list[int] = (period * self._quotas + some).tolist()
        return counts


def interleave(quotas: Sequence[int]) -> tuple[Ints, Ints]:
    """One period of the chairman assignment (Tijdeman, 1980): quota i of sum(quotas) places for dataset i, never off by 1 or more.

    Turn j of dataset i may come from place (period (1 + s j)) / (s quota) - 1 on, with s = 2 datasets - 2; of the turns that may come, the
    one whose deadline is first does. Returns the dataset of each place, and how many places it had before.
    """
    period, count = sum(quotas), len(quotas)
    if count == 1:
        return np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    slack, common = 2 * count - 2, lcm(*quotas)
    waiting = [(_release(period, slack, quota, 0), i, 0) for i, quota in enumerate(quotas)]
    heapify(waiting)
    due: list[tuple[int, int, int]] = []
    places, before = np.empty(period, dtype=np.int64), np.empty(period, dtype=np.int64)
    for place in range(period):
        while waiting and waiting[0][0] <= place:
            _, i, turn = heappop(waiting)
            heappush(due, ((slack * (turn + 1) - 1) * (common // quotas[i]), i, turn))
        _, chosen, turn = heappop(due)
        places[place], before[place] = chosen, turn
        heappush(waiting, (_release(period, slack, quotas[chosen], turn + 1), chosen, turn + 1))
    return places, before


def _release(period: int, slack: int, quota: int, turn: int) -> int:
    """The first place that turn `turn` of a dataset may have."""
    return -(-period * (1 + slack * turn) // (slack * quota)) - 1


def shuffled(ordinals: Ints, size: int, seed: int, dataset: int) -> Ints:
    """Rows of the samples with these ordinals: each epoch of `size` samples is a permutation of its own."""
    epochs, within = np.divmod(ordinals, size)
    rows = np.empty_like(ordinals)
    for epoch in np.unique(epochs).tolist():
        of_epoch = epochs == epoch
        rows[of_epoch] = permute(within[of_epoch], size, (seed, dataset, epoch))
    return rows


def permute(indices: Ints, size: int, key: Sequence[int]) -> Ints:
    """Where a keyed pseudo-random permutation of range(size) sends each index, without holding the permutation.

    A Feistel network over the next power of four, walked until it lands inside (Black and Rogaway, 2002).
    """
    half = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    keys = _round_keys(key)
    found = _feistel(indices.astype(np.uint64), np.uint64(half), keys)
    while (outside := found >= size).any():
        found[outside] = _feistel(found[outside], np.uint64(half), keys)
    return found.astype(np.int64)


def _feistel(values: NDArray[np.uint64], half: np.uint64, keys: Sequence[np.uint64]) -> NDArray[np.uint64]:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = values >> half, values & mask
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) & mask)
    return (left << half) | right


def _round_keys(key: Sequence[int], rounds: int = 8) -> list[np.uint64]:
    state = np.zeros(1, dtype=np.uint64)
    for part in key:
        state = _mix(state ^ np.uint64(part))
    return [_mix(state + np.uint64(r + 1))[0] for r in range(rounds)]


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele et al., 2014). Arithmetic wraps, as it must."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
