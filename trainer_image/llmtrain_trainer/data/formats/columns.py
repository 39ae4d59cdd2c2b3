"""Columns of a row that no format reads: harmless ones, ones that are counted, ones that are refused. Pure; called by formats."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from llmtrain_trainer.config.dataset import Dataset
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.sources.readers import Row
from llmtrain_trainer.data.sources.row_rules import named_columns
from llmtrain_trainer.data.sources.wanted import MEDIA, PART_OF_PROMPT, PLAIN, optional_columns, wanted_columns

_ABOUT_THE_ROW = re.compile(
    r"|unnamed: \d+|(.*_)?(id|ids|idx|uuid|guid|index|hash|md5|sha\d*|digest|key)|__index_level_\d+__"
    r"|(num|n|len|avg|max|min|mean|total)_.*|.*_(count|score|len|length|tokens|name|time|at|date|path|url|type|ratio|prob)"
    r"|(source|sources|origin|url|uri|link|meta|metadata|extra|info|timestamp|time|date|created|updated|dump|version|revision"
    r"|lang|language|license|licence|score|scores|rating|quality|difficulty|length|tokens|size|category|categories|topic|topics|tag|tags"
    r"|domain|type|kind|task|dataset|subset|split|config|file|filename|path|repo|repository|author|model|generator|seed|stars|ext)",
    re.IGNORECASE,
)
"""Names of columns that say something about a document, not in it. pandas writes its index without a name."""


def check_columns(field: str, dataset: Dataset, row: Row) -> dict[str, int]:
    """Kinds of prepare/told.py for columns that hold something and are not read. Raises BadData for one that the answer needs."""
    found: dict[str, int] = {}
    for column in _unread(dataset, row):
        if dataset.format not in PLAIN:
            _refuse(field, dataset, row, column)
        if not _ABOUT_THE_ROW.fullmatch(column):
            found[f"column not read:{column}"] = 1
    return found


def _unread(dataset: Dataset, row: Row) -> Iterator[str]:
    passed = {*wanted_columns(dataset), *optional_columns(dataset), *named_columns(dataset), *dataset.ignore_columns}
    yield from (str(column) for column, value in row.values.items() if column not in passed and _holds(value))
    yield from (column for column in row.unread if column not in passed)


def _holds(value: Any) -> bool:
    return value is not None and value not in ("", [], {}) and not (isinstance(value, str) and not value.strip())


def _refuse(field: str, dataset: Dataset, row: Row, column: str) -> None:
    ignore = f"name it in {field}.ignoreColumns to train without it"
    if column in MEDIA:
        rule = f"column {column} holds something other than text, and only text is trained on here"
        raise BadData(f"{field}.source", row.place, rule, f"Leave such rows out, or {ignore}")
    if column in PART_OF_PROMPT and _is_missing(dataset, row, column):
        into = _prompt_of(dataset)
        rule = f"column {column} holds a part of the prompt that format {dataset.format} does not read"
        raise BadData(f"{field}.source", row.place, rule, f"Write its text into {into}, or {ignore}")


def _prompt_of(dataset: Dataset) -> str:
    """Where what belongs to the prompt is written."""
    if dataset.format == "promptCompletion":
        return dataset.columns.prompt
    if dataset.format == "alpaca":
        return f"column {dataset.columns.input}"
    return f"column {dataset.columns.system}" if dataset.format == "sharegpt" else f"the first turn of {dataset.columns.messages}"


def _is_missing(dataset: Dataset, row: Row, column: str) -> bool:
    """Whether the prompt that is read lacks what the column says."""
    if dataset.format == "textLabel":
        return False
    value = row.values.get(column)
    if dataset.format in ("promptCompletion", "alpaca", "squad"):
        prompt = row.values.get(wanted_columns(dataset)[0])
        return not (isinstance(value, str) and isinstance(prompt, str) and value.strip() in prompt)
    turns = row.values.get(wanted_columns(dataset)[-1])
    said = [turn.get("content", turn.get("value")) for turn in turns if isinstance(turn, dict)] if isinstance(turns, list) else []
    return column.startswith("system") and not (isinstance(value, str) and value.strip() in map(str, said))
