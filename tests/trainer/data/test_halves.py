"""Halves of surrogate pairs, which JSON can write and no tokenizer can read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmtrain_trainer.data.sources.cleaning import whole_text
from llmtrain_trainer.data.sources.readers import Row
from llmtrain_trainer.data.sources.reading import Reading

HALF = json.loads('"\\ud83d"')


@pytest.mark.parametrize(
    ("value", "mended"),
    [
        (f"a{HALF}b", "a\ufffdb"),
        ([f"{HALF}", "b"], ["\ufffd", "b"]),
        ([{"role": "user", "content": f"x{HALF}"}], [{"role": "user", "content": "x\ufffd"}]),
        ({f"k{HALF}": 1}, {"k\ufffd": 1}),
    ],
)
def test_each_half_becomes_one_replacement_character_wherever_it_stands(value: Any, mended: Any) -> None:
    reading = Reading()
    row = whole_text(Row("a row 1", {"text": value, "other": 1}), ["text"], reading)
    assert row == Row("a row 1", {"text": mended, "other": 1}) and reading.halves == 1


@pytest.mark.parametrize("value", ["plain", "\N{GRINNING FACE}", json.loads('"\\ud83d\\ude00"'), 7, None, [], {"a": ["b"]}])
def test_a_row_of_whole_characters_is_the_same_object(value: Any) -> None:
    row, reading = Row("a row 1", {"text": value}), Reading()
    assert whole_text(row, ["text"], reading) is row and reading.halves == 0


def test_columns_that_are_not_read_are_not_looked_at() -> None:
    row, reading = Row("a row 1", {"text": "plain", "other": HALF}), Reading()
    assert whole_text(row, ["text"], reading) is row and reading.halves == 0
