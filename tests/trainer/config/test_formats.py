"""Bytes, counts, durations and losses as people read them, at the edges of each unit."""

from __future__ import annotations

import math

import pytest

from llmtrain_trainer.config.formats import amount, loss, size, span

GIB = 2**30
TABLE = [
    (size(0), "0 B"),
    (size(1023), "1023 B"),
    (size(1024), "1.0 KiB"),
    (size(2**20 - 1), "1.0 MiB"),
    (size(15 * 2**20), "15.0 MiB"),
    (size(1.5 * GIB), "1.5 GiB"),
    (size(128.04 * GIB), "128.0 GiB"),
    (size(1010.3 * GIB), "1010.3 GiB"),
    (size(GIB * 1024 - 1), "1.0 TiB"),
    (size(5e18), "4547473.5 TiB"),
    (amount(0), "0"),
    (amount(2048.4), "2,048"),
    (amount(9999), "9,999"),
    (amount(9999.6), "10k"),
    (amount(45_300), "45.3k"),
    (amount(999_999), "1M"),
    (amount(1_250_000), "1.25M"),
    (amount(70_553_706_496), "70.6B"),
    (amount(8_030_261_248), "8.03B"),
    (amount(15e15), "15,000T"),
    (span(0.4), "0s"),
    (span(48.2), "48s"),
    (span(59.6), "1m00s"),
    (span(125), "2m05s"),
    (span(7380), "2h03m"),
    (span(180_000), "2d02h"),
    (loss(2.34567), "2.346"),
    (loss(None), "not finite"),
    (loss(math.inf), "not finite"),
]


@pytest.mark.parametrize(("text", "wanted"), TABLE, ids=[row[1] for row in TABLE])
def test_a_number_is_written_for_people(text: str, wanted: str) -> None:
    assert text == wanted


@pytest.mark.parametrize("form", [size, amount, span], ids=["size", "amount", "span"])
@pytest.mark.parametrize("unknown", [None, math.nan, math.inf], ids=str)
def test_what_is_not_known_is_a_dash(form: object, unknown: float | None) -> None:
    assert callable(form) and form(unknown) == "-"
