"""Halves of surrogate pairs, which JSON can write and no tokenizer can read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from llmtrain_trainer.data.sources.readers import Row
from llmtrain_trainer.data.sources.reading import Reading


def whole_text(row: Row, columns: Sequence[str], counted: Reading) -> Row:
    """The row with U+FFFD for each half of a surrogate pair; `counted` counts such rows."""
    if not any(_has_half(row.values.get(column)) for column in columns):
        return row
    counted.halves += 1
    return replace(row, values={name: _mended(value) for name, value in row.values.items()})


def _has_half(value: Any) -> bool:
    if isinstance(value, str):
        return not value.isascii() and _HALF.search(value) is not None
    if isinstance(value, dict):
        return any(_has_half(key) or _has_half(each) for key, each in value.items())
    return isinstance(value, list) and any(map(_has_half, value))


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return _HALF.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_mended(key): _mended(each) for key, each in value.items()}
    return [_mended(each) for each in value] if isinstance(value, list) else value


_HALF = re.compile("[\ud800-\udfff]")
