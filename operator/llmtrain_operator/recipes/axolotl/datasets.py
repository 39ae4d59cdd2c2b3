"""Entries of `datasets` in an Axolotl recipe as entries of spec.dataset."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from llmtrain_operator.recipes.axolotl.turns import FORMATS_OF_TURNS, own_roles, turn_keys
from llmtrain_operator.recipes.values import each, path, place, text

_BUILDERS = ("json", "csv", "parquet", "text", "arrow")
"""Values of `path` that name a kind of file, whose files stand in `data_files`."""

_DEFAULTS = {"columns.conversations": "conversations", "columns.messages": "messages", "columns.text": "text", "columns.tools": "tools"}


def expanded(entry: Mapping[str, Any], fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One entry for each file, subset and split. Raises ValueError for what has no place."""
    adapted = _adapted(entry, fields)
    return [
        _without_defaults({"source": source} | subset | ({"split": split} if split else {}) | adapted)
        for source, subset, split in product(_sources(entry), _subsets(entry), _splits(entry))
    ]


def _adapted(entry: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an entry once keys that depend on each other are read."""
    found = dict(fields)
    if found.get("format") in FORMATS_OF_TURNS.values():
        found["format"] = FORMATS_OF_TURNS.get(turn_keys(entry), "messages")
        if found["format"] == "sharegpt" and "columns.messages" in found:
            found["columns.conversations"] = found.pop("columns.messages")
        if own := own_roles(entry):
            found["roles"] = own
    return found


def _subsets(entry: Mapping[str, Any]) -> list[dict[str, str]]:
    return [{"subset": text(name)} for name in each(entry.get("name"))] or [{}]


def _splits(entry: Mapping[str, Any]) -> list[str | None]:
    """train+test are two splits."""
    if entry.get("split") is None:
        return [None]
    found = [split.strip() for split in text(entry["split"]).split("+")]
    return [None if split == "train" else split for split in found]


def _sources(entry: Mapping[str, Any]) -> list[str]:
    files = list(_files(entry.get("data_files"), str(entry.get("split") or "train")))
    return [_joined(entry, file) for file in files] if files else [place(entry.get("path"))]


def _files(given: Any, split: str) -> Iterator[str]:
    """Files as text, a list of them, or a mapping of splits to either, of which the entry's own is read."""
    if isinstance(given, Mapping):
        given = given.get(re.split(r"[\\[+]", split)[0], list(given.values()))
    for file in each(given):
        yield from (text(one) for one in each(file))


def _joined(entry: Mapping[str, Any], file: str) -> str:
    """A file of a repository, or one on this machine."""
    repository = str(entry.get("path") or "")
    if "://" in file or file.startswith(("/", ".", "~")) or repository in ("", *_BUILDERS):
        return path(file)
    base = place(repository)
    return path(file) if base.startswith("file://") else f"{base.rstrip('/')}/{file}"


def _without_defaults(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if _DEFAULTS.get(name) != value}
