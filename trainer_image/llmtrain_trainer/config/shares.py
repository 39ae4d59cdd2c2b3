"""Weights of datasets as whole numbers: how many samples of each make one period of the mixture."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import lcm

SHORT_PERIOD = 1 << 14
"""Weights whose common denominator is larger are rounded to this one, unless that changes a share by more than SLIGHT."""

LONGEST_PERIOD = 1 << 20
"""In that case weights are rounded to this denominator; the period then takes seconds to compute at the start of a rank."""

SLIGHT = 0.01


def whole_shares(weights: Sequence[float]) -> list[int]:
    """Whole numbers in the proportion of the weights, in lowest terms if their sum is small enough."""
    shares = _exact(weights)
    period = lcm(*(share.denominator for share in shares))
    for longest in (SHORT_PERIOD, LONGEST_PERIOD):
        if period <= longest:
            return [int(share * period) for share in shares]
        rounded = [max(1, round(share * longest)) for share in shares]
        if _farthest(rounded, shares) <= SLIGHT:
            return rounded
    return rounded


def distortion(weights: Sequence[float]) -> list[float]:
    """Relative error of each dataset's share against its weight: 0.1 is a tenth too much or too little."""
    shares, whole = _exact(weights), whole_shares(weights)
    return [abs(float(Fraction(part, sum(whole)) / share - 1)) for part, share in zip(whole, shares, strict=True)]


def _exact(weights: Sequence[float]) -> list[Fraction]:
    exact = [Fraction(repr(float(weight))) for weight in weights]
    return [weight / sum(exact) for weight in exact]


def _farthest(whole: Sequence[int], shares: Sequence[Fraction]) -> float:
    return max(abs(float(Fraction(part, sum(whole)) / share - 1)) for part, share in zip(whole, shares, strict=True))
