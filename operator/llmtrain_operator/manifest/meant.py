"""The value that was probably meant by one that a field does not accept: an address, a name, a number, a section in another form."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any

from llmtrain_operator.manifest.numerals import meanings
from llmtrain_operator.manifest.schema import Schema

_TYPES: dict[str, tuple[type, ...]] = {
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


def has_type(value: Any, schema: Schema) -> bool:
    """Whether the value has the field's type; a boolean is not a number."""
    if isinstance(value, bool) and schema.get("type") != "boolean":
        return False
    if "type" not in schema:
        return isinstance(value, (int, str))
    return isinstance(value, _TYPES[schema["type"]])


def fits(value: Any, schema: Schema) -> bool:
    """Whether the field accepts this single value."""
    if not has_type(value, schema) or isinstance(value, (list, dict)):
        return False
    if "enum" in schema:
        return value in schema["enum"]
    if isinstance(value, str):
        if len(value) > schema.get("maxLength", len(value)):
            return False
        rules = schema["anyOf"] if schema.get("type") == "string" and "anyOf" in schema else [schema]
        return any(
            value in rule.get("enum", ()) or re.search(rule.get("pattern", "(?!)" if "enum" in rule else ""), value) for rule in rules
        )
    return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))


def fitting(value: Any, schema: Schema) -> Any:
    """The value itself if the field accepts it, else the value that was probably meant; None if unknown."""
    if isinstance(value, list) and schema.get("type") == "array":
        return value if all(fits(item, schema["items"]) for item in value) else None
    if fits(value, schema):
        return value
    if not isinstance(value, str):
        return None
    if schema.get("type") in ("integer", "number", "boolean"):
        return next((meant for meant in meanings(value) if fits(meant, schema)), None)
    return (beside(value, schema) or repaired(value, schema)) if schema.get("type") == "string" else None


def as_section(value: Any, schema: Schema) -> dict[str, Any] | None:
    """`parallelism: auto` -> {auto: true}; `schedule: cosine` -> {name: cosine}; `model: owner/name` -> {source: hf://owner/name}."""
    properties: Schema = schema.get("properties", {})
    if isinstance(value, str) and properties.get(value, {}).get("type") == "boolean":
        return {value: True}
    if isinstance(value, bool | list | dict):
        return None
    needed = set(schema.get("required", ()))
    told = {name: inner for name, inner in properties.items() if (inner.get("type") != "string" or _is_told(inner)) and needed <= {name}}
    if field := next((name for name, inner in told.items() if fits(value, inner)), None):
        return {field: value}
    places = {name: inner for name, inner in told.items() if name in ("source", "destination")}
    return next(({name: meant} for name, inner in places.items() if (meant := fitting(value, inner)) is not None), None)


def _pair(item: Any) -> tuple[str, Any] | None:
    if isinstance(item, str) and "=" in item:
        name, _, text = item.partition("=")
        return name, text
    if isinstance(item, dict) and item.keys() == {"name", "value"}:
        return str(item["name"]), item["value"]
    return next(iter(item.items())) if isinstance(item, dict) and len(item) == 1 else None


def as_pairs(items: list[Any]) -> dict[str, str] | None:
    """Names and texts from a list as pods have it, or of single pairs, or of NAME=text; None if it is none of these."""
    made: dict[str, str] = {}
    for pair in map(_pair, items):
        if pair is None or isinstance(pair[1], list | dict):
            return None
        made[pair[0]] = pair[1] if isinstance(pair[1], str) else str(pair[1]).lower()
    return made or None


def _is_told(schema: Schema) -> bool:
    """Whether the field restricts its text; any text fits the other fields."""
    return bool({"enum", "pattern", "anyOf"} & set(schema))


def as_list(value: Any, schema: Schema) -> list[Any] | None:
    """A list from one item, or from several separated by commas; None if they do not fit."""
    if isinstance(value, dict):
        return [value]
    text = value.strip() if isinstance(value, str) else ""
    candidates = [re.split(r"\s*,\s*", text), text.split()] if "," in text else [[value], text.split()]
    takes = schema["items"]
    for items in candidates:
        made = [as_section(item, takes) if takes.get("type") == "object" else fitting(item, takes) for item in items]
        if None not in made and schema.get("minItems", 0) <= len(made) <= schema.get("maxItems", len(made)):
            return made
    return None


def of_number(value: Any, kind: str) -> int | bool | None:
    """A whole number or a boolean for a fraction or a count; None if not applicable."""
    if isinstance(value, bool) or not isinstance(value, int | float) or kind not in ("integer", "boolean"):
        return None
    return bool(value) if kind == "boolean" else round(value)


def repaired(text: str, schema: Schema) -> str | None:
    """The text in a form that the field accepts; None if there is none."""
    text = text.strip(_QUOTES)
    near = difflib.get_close_matches(text.lower(), schema["examples"], n=1) if "anyOf" in schema else []
    return next((each for each in [*near, *_repairs(text, schema.get("maxLength", 0))] if fits(each, schema)), None)


def beside(text: str, schema: Schema) -> str | None:
    """The file:// URI for a relative path; None if the text may be something else, such as owner/name of a repository."""
    if not any(str(one).startswith("file:///") for one in schema.get("examples", ())):
        return None
    text = re.sub(r"^(file:/{0,3})?\$\{?HOME\}?/", "~/", text.strip(_QUOTES))
    path = re.fullmatch(r"((?i:file:|file://))?((?:\.{1,2}/|~/)*[\w*?\[][^:\n]*/?|~/?|\.{1,2}/?)", text)
    hub = any(str(one).startswith("hf://") for one in schema["examples"])
    if path is None or (hub and path[1] is None and _may_be_elsewhere(text)):
        return None
    return f"file://{path[2]}" if path[2].startswith((".", "~")) else f"file://./{path[2]}"


def _may_be_elsewhere(text: str) -> bool:
    """Whether the text may be a repository (owner/name) or a single word with another meaning."""
    repository = re.fullmatch(r"[\w.-]+/[\w.-]+", text) and not text.startswith((".", "~")) and not _FILE.search(text)
    return bool(repository) or not ("/" in text or "." in text or text == "~")


_FILE = re.compile(r"\.(txt|json|jsonl|ndjson|csv|tsv|parquet|arrow|gz|zst|safetensors|bin|md)$", re.IGNORECASE)
"""Endings of file names, which names of repositories do not have."""


_QUOTES = " \t\u00a0'\"\u2018\u2019\u201c\u201d\u00ab\u00bb"
"""Spaces and quotation marks, including those of word processors."""


def _repairs(text: str, longest: int) -> Iterator[str]:
    """Texts that were probably meant: with a scheme added, in lower case, without spaces."""
    yield text.strip()
    yield from _addresses(text.strip())
    if span := re.fullmatch(r"(\d+)\s*(s|m|h|d)[a-z]*", text.lower()):
        yield f"{span[1]}{span[2]}"
    yield "-".join(text.split())
    yield "".join(text.split())
    yield "".join(text.split()).lower()
    yield text.rstrip("bB")
    yield re.sub(r"^(file:/*|(?=/))", "file:///", text).replace("////", "///")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", text):
        yield f"hf://{text}"
    name = re.sub(r"[^a-z0-9]+", "-", text.lower())[: longest or None].strip("-")
    if "/" not in text and "[" not in text:
        yield name


def _addresses(text: str) -> Iterator[str]:
    """URIs for an address with another name of its scheme, or for one copied from a browser."""
    if page := re.fullmatch(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/(?:datasets/)?([\w.-]+/[\w.-]+)(?:/.*)?/?", text):
        yield f"hf://{page[1]}"
    if store := re.fullmatch(r"https?://([\w.-]+)\.s3[\w.-]*\.amazonaws\.com/(.*)", text):
        yield f"s3://{store[1]}/{store[2]}"
    if given := re.fullmatch(r"([A-Za-z0-9]+):/{0,2}(.+)", text):
        scheme = {"s3a": "s3", "s3n": "s3", "huggingface": "hf", "hub": "hf", "pvcs": "pvc"}.get(given[1].lower(), given[1].lower())
        yield f"{scheme}://{'/' if scheme == 'file' else ''}{given[2].lstrip('/')}"
