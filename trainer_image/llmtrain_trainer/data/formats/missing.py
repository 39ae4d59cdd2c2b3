"""What is said where a row lacks a column that the format reads: what was found, and the change that makes it readable.

Pure; called by formats. Forms that are known elsewhere are named: to name their columns one by one would be refused next.
"""

from __future__ import annotations

import json
from typing import Any

from llmtrain_trainer.config.dataset import Dataset
from llmtrain_trainer.config.tables.tasks import TASKS
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.formats.turns import SHAREGPT, is_sharegpt
from llmtrain_trainer.data.sources.readers import Row
from llmtrain_trainer.data.sources.wanted import COLUMN_KEYS, wanted_columns

MOST_NAMES = 20
LONGEST_NAME = 60
"""Names that are shown, and characters of each: a file without a header has its first row for names."""

WRAPPERS = ("data", "rows", "records", "examples", "samples", "instances", "items", "dataset", "train", "validation", "test")
"""Keys under which a file that is one object holds its rows."""

_OF_JSON = (".json row 1", ".json.gz row 1", ".json.zst row 1")
"""How the place of a row ends that is the one object of a .json file."""

LISTS_OF_TURNS = ("messages", "conversations", "ids")

ALSO_CALLED: dict[str, tuple[str, ...]] = {
    "text": ("content", "contents", "body", "document", "passage", "article", "story", "code", "raw_content"),
    "prompt": ("question", "instruction", "query", "input", "inputs", "source", "user", "problem"),
    "completion": ("answer", "response", "output", "outputs", "target", "assistant", "solution", "reply"),
    "label": ("label_name", "label_text", "labels", "class", "category", "sentiment", "intent", "target", "topic", "coarse_label"),
    "instruction": ("prompt", "question", "query", "user", "problem"),
    "context": ("passage", "paragraph", "document", "text"),
    "question": ("prompt", "query", "problem"),
    "ids": ("tokens", "token_ids", "ids"),
    "answers": ("answer", "labels", "targets"),
    "output": ("completion", "answer", "response", "outputs", "target", "assistant", "solution", "reply"),
    "conversations": ("conversation", "messages", "dialog", "dialogue", "chat", "turns"),
    "messages": ("conversation", "conversations", "dialog", "dialogue", "chat", "turns", "message"),
}
"""What others call the columns that formats read."""


def missing(field: str, dataset: Dataset, row: Row, key: str) -> BadData:
    """For `columns.<key>`, whose column `row` does not have."""
    column = getattr(dataset.columns, key)
    rule = f"there is no such column in {row.place} (found {_shown(row)})"
    return known_form(field, dataset, row) or BadData(f"{field}.columns.{key}", column, rule, _way_out(field, dataset, row, key))


def known_form(field: str, dataset: Dataset, row: Row) -> BadData | None:
    """For a row in a form that is known elsewhere, None for others."""
    values = row.values
    turns = values.get("conversations")
    if dataset.format == "sharegpt" and isinstance(turns, list) and turns and is_sharegpt(turns[0]):
        return None
    if isinstance(turns, list) and turns and is_sharegpt(turns[0]):
        return BadData(f"{field}.source", row.place, f"conversations[1] {SHAREGPT}", f"Set {field}.format to sharegpt, in task sft")
    if dataset.format == "messages" and isinstance(values.get("role"), str) and "content" in values:
        rule = "it is a single message, not a row with a conversation"
        way_out = f'Write each conversation as {{"{dataset.columns.messages}": [...]}} around its messages'
        return BadData(f"{field}.source", row.place, rule, way_out)
    if {"instruction", "input", "output"} <= values.keys() and dataset.format != "alpaca":
        rule = f"it is in Alpaca's form (instruction, input, output), which format {dataset.format} does not read"
        return BadData(f"{field}.source", row.place, rule, f"Set {field}.format to alpaca, in task sft")
    if values and all(isinstance(value, dict) and set(wanted_columns(dataset)) <= value.keys() for value in values.values()):
        rule = "it is one object that holds each row under a key of its own, not a row"
        return BadData(f"{field}.source", row.place, rule, "Write the rows as a list, such as with jq '[.[]]' old.json > new.json")
    if wrapper := holds_rows(dataset, row):
        rule = f"it is one object that holds the rows under {wrapper}, not a row"
        if row.place.endswith(_OF_JSON) and "." not in wrapper:
            return BadData(f"{field}.source", row.place, rule, f"Set {field}.field to {wrapper}")
        key = wrapper if wrapper.isidentifier() and wrapper.isascii() else f"[{json.dumps(wrapper)}]"
        return BadData(f"{field}.source", row.place, rule, f"Write the list alone, such as with jq '.{key}' old.json > new.json")
    return None


def holds_rows(dataset: Dataset, row: Row) -> str | None:
    """The key of an object that wraps a list of rows: {"data": [{...}, ...]}. A column may hold a list of objects that are none."""
    wanted = set(wanted_columns(dataset))
    for key, value in row.values.items():
        first = value[0] if isinstance(value, list) and value else None
        if key not in wanted and isinstance(first, dict) and (wanted <= first.keys() or (key in WRAPPERS and "role" not in first)):
            return str(key)
    return None


def _way_out(field: str, dataset: Dataset, row: Row, key: str) -> str:
    other = next((name for name in COLUMN_KEYS if _one_task_reads(name, dataset.format) and _has_all(dataset, row, name)), None)
    if other is not None:
        return f"Set {field}.format to {other}"
    names = {key: _likely(dataset, row, key) for key in COLUMN_KEYS[dataset.format] if getattr(dataset.columns, key) not in row.values}
    if all(names.values()):
        renamed = " and ".join(f"{field}.columns.{key} to {_quoted(str(name))}" for key, name in names.items())
        return f"Set {renamed}, if {'they hold them' if len(names) > 1 else 'it holds it'}"
    apart = ", or leave this file out with a glob, such as *.jsonl" if row.beside else ""
    return f"Set {field}.columns.{key} to the column that holds it{apart}"


def _one_task_reads(other: str, form: str) -> bool:
    return other != form and any({other, form} <= set(traits.formats) for traits in TASKS.values())


def _has_all(dataset: Dataset, row: Row, form: str) -> bool:
    return all(getattr(dataset.columns, key) in row.values for key in COLUMN_KEYS[form])


def _likely(dataset: Dataset, row: Row, key: str) -> str | None:
    """The one column that is called almost so, or as others call it."""
    wanted = {_plain(getattr(dataset.columns, key))}
    alike = [name for name in row.values if _plain(name) in wanted]
    also = [name for name in row.values if _plain(name) in ALSO_CALLED[key] and _fits(key, row.values[name])]
    return next((names[0] for names in (alike, also) if len(names) == 1), None)


def _fits(key: str, value: Any) -> bool:
    if key == "label":
        return isinstance(value, str | int)
    return isinstance(value, list) if key in LISTS_OF_TURNS else isinstance(value, str)


def _plain(name: str) -> str:
    return name.strip().casefold()


def _shown(row: Row) -> str:
    names = sorted(_quoted(name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}...") for name in map(str, row.values))
    return (", ".join(names[:MOST_NAMES]) + (f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else "")) or "none"


def _quoted(name: str) -> str:
    """In quotes where spaces at its ends would be lost."""
    return name if name == name.strip() and name else f'"{name}"'
