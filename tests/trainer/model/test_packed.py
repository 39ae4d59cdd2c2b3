"""Integers packed into words, against Python's own integers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtrain_trainer.model import packed
from llmtrain_trainer.model.packed import AWQ_ORDER, bits_of, unpacked


def words_of(numbers: list[int], bits: int) -> list[int]:
    """Numbers laid end to end, lowest bits first, as signed words of 32 bits."""
    stream = sum(number << (bits * place) for place, number in enumerate(numbers))
    count = -(-len(numbers) * bits // 32)
    words = [(stream >> (32 * place)) & 0xFFFFFFFF for place in range(count)]
    return [word - (1 << 32) if word >> 31 else word for word in words]


@settings(max_examples=40)
@given(st.data(), st.integers(1, 8), st.integers(1, 70), st.integers(1, 3))
def test_numbers_of_any_width_come_out_as_they_were_packed(data: st.DataObject, bits: int, count: int, rows: int) -> None:
    numbers = data.draw(st.lists(st.lists(st.integers(0, 2**bits - 1), min_size=count, max_size=count), min_size=rows, max_size=rows))
    words = torch.tensor([words_of(row, bits) for row in numbers], dtype=torch.int32)
    assert unpacked(words, bits, count).tolist() == numbers


def test_many_rows_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "AT_ONCE", 20)
    numbers = [[(row + column) % 16 for column in range(9)] for row in range(7)]
    words = torch.tensor([words_of(row, 4) for row in numbers], dtype=torch.int32)
    assert unpacked(words, 4, 9).tolist() == numbers


@given(st.integers(1, 8), st.integers(1, 400))
def test_the_width_is_told_by_the_words_of_a_row_or_not_at_all(bits: int, columns: int) -> None:
    words = -(-columns * bits // 32)
    fitting = [width for width in range(1, 9) if -(-columns * width // 32) == words]
    assert bits_of((3, words), columns) == (bits if fitting == [bits] else 0)


def test_words_that_no_width_fills_have_none() -> None:
    assert bits_of((3, 100), 32) == 0 and bits_of((3, 4), 32) == 4


def test_awq_keeps_each_of_eight_columns_somewhere() -> None:
    assert sorted(AWQ_ORDER) == list(range(8))
