"""Slices of a split as the datasets library writes them: train[10:100], train[:5%], train[-20:]. Pure."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from math import inf

_FORM = re.compile(r"(?P<name>[^\[]+)(?:\[(?P<start>-?\d+%?)?:(?P<stop>-?\d+%?)?\])?")


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of the rows of a split, all of them where nothing is written."""

    start: str = ""
    stop: str = ""

    @property
    def needs_count(self) -> bool:
        """Whether it depends on how many rows there are."""
        return any(mark in bound for bound in (self.start, self.stop) for mark in "%-")

    def rows(self, count: int | None = None) -> range:
        """Indices of its rows from 0. `count`: how many there are, where it depends on them."""
        return range(_at(self.start or "0", count), _at(self.stop, count) if self.stop else sys.maxsize)


def share_rows(one: Slice, other: Slice) -> bool | None:
    """Whether two slices of the same rows overlap; None where it depends on how many rows there are."""
    if Slice() in (one, other):
        return True
    bounds = [bound for bound in (one.start, one.stop, other.start, other.stop) if bound]
    if all(bound.endswith("%") for bound in bounds):
        spans = [_span(each, 100, 100.0) for each in (one, other)]
    elif all(bound.isdecimal() for bound in bounds):
        spans = [_span(each, 0, inf) for each in (one, other)]
    elif all(bound.startswith("-") and not bound.endswith("%") for bound in bounds):
        spans = [(float(each.start or -inf), float(each.stop or 0)) for each in (one, other)]
    else:
        return None
    return max(start for start, _ in spans) < min(stop for _, stop in spans)


def _span(part: Slice, whole: int, end: float) -> tuple[float, float]:
    """Start and stop in the unit of its bounds. `whole`: what a negative bound counts back from."""
    start, stop = (int(bound.rstrip("%")) if bound else None for bound in (part.start, part.stop))
    return tuple(default if at is None else at + whole * (at < 0) for at, default in ((start, 0.0), (stop, end)))  # type: ignore[return-value]


def name_of(split: str) -> str:
    """train of train[10:100]."""
    return split.partition("[")[0]


def slice_of(split: str) -> Slice:
    """The slice of a split, which the manifest's pattern has checked."""
    found = _FORM.fullmatch(split)
    return Slice(found["start"] or "", found["stop"] or "") if found else Slice()


def _at(bound: str, count: int | None) -> int:
    """The index of a bound; a percentage is rounded to the nearest row, as the datasets library does."""
    number = int(bound.rstrip("%"))
    if bound.endswith("%"):
        number = round(number * (count or 0) / 100)
    return max(0, number + (count or 0)) if number < 0 else number
