"""Which samples are packed into the same row. Pure."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Sequence


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Best-fit decreasing bin packing: the indices of the samples of each row, no row longer than `capacity`.

    Rows are ordered by their first sample and samples within a row by index, so that the result depends on the lengths alone.
    Best-fit decreasing uses at most 11/9 of the best possible number of rows plus a constant (Johnson et al., 1974).
    """
    bins: list[list[int]] = []
    by_space: defaultdict[int, list[int]] = defaultdict(list)
    spaces: list[int] = []  # keys of by_space that are not empty, ascending
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        length = lengths[index]
        if not 0 < length <= capacity:
            raise ValueError(f"sample {index} has length {length}, a row has {capacity}")
        at = bisect_left(spaces, length)
        if at < len(spaces):
            space = spaces[at]
            chosen = by_space[space].pop()
            if not by_space[space]:
                spaces.pop(at)
        else:
            space, chosen = capacity, len(bins)
            bins.append([])
        bins[chosen].append(index)
        if left := space - length:
            if not by_space[left]:
                insort(spaces, left)
            by_space[left].append(chosen)
    return sorted((sorted(members) for members in bins), key=lambda members: members[0])
