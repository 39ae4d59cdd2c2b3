"""Values of recipes as a manifest writes them. Each raises ValueError for a value that it cannot read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from llmtrain_operator.manifest.suggestions import shown

_REPOSITORY = re.compile(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")
_FILE_ENDINGS = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".arrow", ".txt", ".gz", ".zst")
_STORES = ("hf", "s3", "pvc", "file")


def whole(value: Any) -> int:
    """A whole number; recipes write 1e3 too."""
    number = real(value)
    if number != int(number):
        raise ValueError(f"{value!r} is not a whole number")
    return int(number)


def count(value: Any) -> int:
    """A whole number of at least 1."""
    if (number := whole(value)) < 1:
        raise ValueError(f"{value!r} is less than 1")
    return number


def real(value: Any) -> float:
    """A finite number; YAML reads 2e-5 as text."""
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is not a number")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{str(value)[:40]!r} is not a number") from None
    if number - number != 0:
        raise ValueError(f"{value!r} is not finite")
    return number


def share(value: Any) -> float:
    """A number from 0 to 1."""
    if not 0 <= (number := real(value)) <= 1:
        raise ValueError(f"{value!r} is no share from 0 to 1")
    return number


def section(value: Any) -> Mapping[str, Any]:
    """A mapping as it is; anything else is an empty one."""
    return value if isinstance(value, Mapping) else {}


def each(value: Any) -> list[Any]:
    """The items of a list, or one value alone; none of null."""
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def text(value: Any) -> str:
    """Text, or a number as text. Empty text is refused."""
    if isinstance(value, (list, Mapping, bool)) or value is None:
        raise ValueError(f"{shown(value, 40)} is not text")
    if not str(value).strip():
        raise ValueError("it is empty")
    return str(value)


def place(value: Any) -> str:
    """The URI of a model or a dataset: a path on this machine, a URI, or a repository of the Hugging Face hub."""
    written = text(value).strip()
    if "://" in written or written.startswith((".", "/", "~")) or written.endswith(_FILE_ENDINGS):
        return path(written)
    if not _REPOSITORY.match(written):
        raise ValueError(f"{shown(written, 60)} is neither a path nor a repository of the hub")
    return f"hf://{written}"


def path(value: Any) -> str:
    """The URI of a path on this machine, or a URI as it is; a relative path belongs to the manifest's directory."""
    written = text(value).strip()
    scheme, separator, rest = written.partition("://")
    if separator and scheme not in _STORES:
        raise ValueError(f"{scheme}:// is not read: use {', '.join(f'{store}://' for store in _STORES)}")
    if separator:
        return f"hf://{rest.removeprefix('datasets/')}" if scheme == "hf" else written
    return f"file://{written}" if written.startswith((".", "/", "~")) else f"file://./{written}"


def names(value: Any) -> list[str]:
    """A list of names, which recipes also write as text with commas. Raises ValueError where there is none."""
    parts = value if isinstance(value, list) else text(value).split(",")
    found = [text(part).strip() for part in parts if part not in (None, "") and str(part).strip()]
    if not found:
        raise ValueError("it names nothing")
    return found
