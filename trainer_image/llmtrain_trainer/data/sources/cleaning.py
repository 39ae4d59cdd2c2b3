"""What is mended of rows or left out of them: halves of surrogate pairs, duplicates, texts that are too short or too long."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from llmtrain_trainer.config.dataset import Clean, Dataset
from llmtrain_trainer.data.sources.readers import Row
from llmtrain_trainer.data.sources.reading import Reading
from llmtrain_trainer.data.sources.wanted import COLUMN_KEYS, prompt_parts, template_columns, wanted_columns


class Cleaner:
    """`clean` of one dataset. It keeps 16 bytes of each row where duplicates are left out."""

    def __init__(self, dataset: Dataset, counted: Reading) -> None:
        self._dataset, self._clean, self._counted = dataset, dataset.clean, counted
        self._known: set[bytes] = set()

    def keep(self, row: Row) -> bool:
        """Whether a row stays; one that does not is counted. One that has another form than its format reads stays, to be refused by it."""
        if self._clean == Clean() or not has_form(self._dataset, row):
            return True
        said = said_by(self._dataset, row)
        characters = sum(len(text) for value in said for text in _texts(value))
        if characters < (self._clean.min_characters or 0) or characters > (self._clean.max_characters or characters):
            self._counted.unfit += 1
            return False
        if self._clean.duplicates == "exact" and self._is_known([*said, *self._given(row)]):
            self._counted.duplicates += 1
            return False
        return True

    def _given(self, row: Row) -> list[Any]:
        """What the chat template writes around what is said."""
        return [row.values.get(column) for column in template_columns(self._dataset)]

    def _is_known(self, said: list[Any]) -> bool:
        digest = digest_of(said)
        known = digest in self._known
        self._known.add(digest)
        return known


_ITEMS: dict[str, type] = {"messages": dict, "conversations": dict, "prompt": dict, "completion": dict, "answers": str, "ids": int}
"""Columns that hold or may hold a list, and what is in it."""

_TEXTS_TOO = ("prompt", "completion")


def has_form(dataset: Dataset, row: Row) -> bool:
    """Whether each column that is read holds text, or a list where the format reads one: other values have no length to be judged by."""
    return all(_fits(key, row.values.get(getattr(dataset.columns, key))) for key in COLUMN_KEYS[dataset.format] if key != "label")


def _fits(key: str, value: Any) -> bool:
    items = _ITEMS.get(key)
    if items is None or (isinstance(value, str) and (key in _TEXTS_TOO or value.lstrip().startswith("["))):
        return isinstance(value, str)
    return isinstance(value, list) and all(isinstance(item, items) for item in value)


def said_by(dataset: Dataset, row: Row) -> list[Any]:
    """What stands in the columns that are made into text."""
    return [row.values.get(column) for column in (*wanted_columns(dataset), *prompt_parts(dataset))]


def digest_of(said: list[Any]) -> bytes:
    """16 bytes that are equal for equal values."""
    return hashlib.blake2b(json.dumps(said, sort_keys=True, default=str).encode(), digest_size=16).digest()


def _texts(value: Any) -> Iterator[str]:
    """All text of a value, without the names of keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for each in value.values() for text in _texts(each))
    elif isinstance(value, list):
        yield from (text for each in value for text in _texts(each))


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
