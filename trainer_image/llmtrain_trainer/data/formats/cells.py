"""What stands in a column that a format reads. Pure; raises BadData with the row, what was found, and a way out."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from typing import Any

from llmtrain_trainer.config.dataset import Dataset
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.formats.missing import missing
from llmtrain_trainer.data.formats.turns import described
from llmtrain_trainer.data.sources.dataset import Row

MOST_SHOWN, LONGEST = 12, 60
"""Labels that a message shows, and characters of each."""

_TRUTH = {"false": 0, "true": 1}


def value_in(field: str, dataset: Dataset, row: Row, key: str) -> Any:
    """What the row has in `columns.<key>`."""
    column = getattr(dataset.columns, key)
    if column not in row.values:
        raise missing(field, dataset, row, key)
    return row.values[column]


def text_in(field: str, dataset: Dataset, row: Row, key: str) -> str:
    """The same, which has to be text."""
    value, column = value_in(field, dataset, row, key), getattr(dataset.columns, key)
    if isinstance(value, str):
        return value
    rule = f"column {column} is {described(value)}, not text"
    if isinstance(value, list) and value and isinstance(value[0], dict) and key in ("prompt", "completion"):
        way_out = "Write prompt and completion both as text, or both as lists of {role, content}"
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        way_out = f"Set {field}.format to messages and {field}.columns.messages to {column}, if it holds conversations"
    elif isinstance(value, bytes):
        way_out = "Write the column as strings, such as with pyarrow's cast(pyarrow.string())"
    elif isinstance(value, dict):
        way_out = f"Write an object for each row (pandas: orient='records'), or set {field}.columns.{key} to another column"
    elif isinstance(value, list) and value and isinstance(value[0], str):
        way_out = f"Write a row for each text of the list, or set {field}.columns.{key} to another column"
    else:
        way_out = f"Correct the row, or set {field}.columns.{key} to another column"
    raise BadData(f"{field}.source", row.place, rule, way_out)


def said_label(field: str, dataset: Dataset, row: Row) -> str:
    """The label of a row as text: a name, a whole number, or true or false. Raises BadData."""
    value = value_in(field, dataset, row, "label")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    if isinstance(value, str):
        return value.strip()
    rule = f"column {dataset.columns.label} is {_named(value)}, and a label is a name or a whole number"
    way_out = "Correct the row, or leave it out" if isinstance(value, float) else "Write one label for each text"
    raise BadData(f"{field}.source", row.place, rule, way_out)


def label_of(field: str, dataset: Dataset, row: Row, labels: Sequence[str]) -> int:
    """The place of a row's label among `labels`. Raises BadData."""
    said = said_label(field, dataset, row)
    found = place_of(said, labels)
    if found is not None:
        return found
    near = difflib.get_close_matches(said, labels, n=1, cutoff=0.7)
    meant = f", is {near[0]} meant?" if near else ""
    rule = f"its label is {said[:LONGEST] or 'empty'}, which is none of the {len(labels)} that are learned ({shown(labels)}){meant}"
    raise BadData(f"{field}.source", row.place, rule, f"Correct {dataset.columns.label} in the row, leave it out, or name it in labels")


def place_of(said: str, labels: Sequence[str]) -> int | None:
    """Labels have names; a number counts them from 0, unless they are all called by numbers."""
    if said in labels:
        return labels.index(said)
    number = _TRUTH.get(said.lower(), int(said) if said.isascii() and said.isdecimal() else -1)
    return number if 0 <= number < len(labels) and not _numbers(labels) else None


def in_order(found: Collection[str]) -> tuple[str, ...]:
    """Labels that were found in data: numbers by size, names by their letters."""
    return tuple(sorted(found, key=int) if _numbers(found) else sorted(found))


def shown(labels: Sequence[str]) -> str:
    """For a message."""
    some = ", ".join(label if len(label) <= LONGEST else f"{label[:LONGEST]}..." for label in labels[:MOST_SHOWN])
    return some + (f" and {len(labels) - MOST_SHOWN} more" if len(labels) > MOST_SHOWN else "")


def _numbers(labels: Collection[str]) -> bool:
    return all(label.isascii() and label.removeprefix("-").isdecimal() for label in labels)


def _named(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else described(value)
