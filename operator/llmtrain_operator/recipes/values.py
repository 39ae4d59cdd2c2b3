"""Values of recipes as a manifest writes them. Each raises ValueError for a value that it cannot read."""

from __future__ import annotations

import re
from typing import Any

_REPOSITORY = re.compile(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")
_FILE_ENDINGS = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".arrow", ".txt", ".gz", ".zst")


def whole(value: Any) -> int:
    """A whole number; recipes write 1e3 too."""
    number = real(value)
    if number != int(number):
        raise ValueError(f"{value!r} is not a whole number")
    return int(number)


def real(value: Any) -> float:
    """A number; YAML reads 2e-5 as text."""
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is not a number")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{value!r} is not a number") from None


def place(value: Any) -> str:
    """The URI of a model or a dataset: a path on this machine, a URI, or a repository of the Hugging Face hub."""
    text = str(value).strip()
    if "://" in text:
        return text
    if text.startswith((".", "/", "~")) or text.endswith(_FILE_ENDINGS):
        return path(text)
    if not _REPOSITORY.match(text):
        raise ValueError(f"{text!r} is neither a path nor a repository of the hub")
    return f"hf://{text}"


def path(value: Any) -> str:
    """The URI of a path on this machine; a relative one belongs to the manifest's directory."""
    text = str(value).strip()
    if "://" in text:
        return text
    return f"file://{text}" if text.startswith((".", "/", "~")) else f"file://./{text}"


def names(value: Any) -> list[str]:
    """A list of names, which recipes also write as text with commas."""
    parts = value if isinstance(value, list) else str(value).split(",")
    return [str(part).strip() for part in parts if str(part).strip()]
