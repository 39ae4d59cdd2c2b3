"""What stands in a column that a format reads. Pure; raises BadData with the row, what was found, and a way out."""

from __future__ import annotations

from typing import Any

from llmtrain_trainer.config.dataset import Dataset
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.formats.missing import missing
from llmtrain_trainer.data.formats.turns import described
from llmtrain_trainer.data.sources.dataset import Row


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
