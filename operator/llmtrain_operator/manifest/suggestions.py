"""The words of a refusal: what a field takes, and what to write instead of the value that stands there.

Everything is read off the structural schema, so that a new field brings its own words: its bounds, its choices and its `examples`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

import yaml

from llmtrain_operator.manifest.document import Path
from llmtrain_operator.manifest.numerals import is_scalar, meanings
from llmtrain_operator.manifest.schema import Schema

_TAKES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a section with fields of its own",
}
_TYPES: dict[str, tuple[type, ...]] = {
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


class _Flow(yaml.SafeDumper):
    """One line, and the whole value at every place."""

    def ignore_aliases(self, _: Any) -> bool:
        return True


def _quoted(dumper: _Flow, text: str) -> yaml.Node:
    """YAML 1.1 takes 1e-4 for text, so that its quotes would not show; here it is a number."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="'" if is_scalar(text) else None)


_Flow.add_representer(str, _quoted)


def shown(value: Any, longest: int = 80) -> str:
    """A value as YAML on one line, cut where it is long."""
    text = yaml.dump(_begin(value, longest), Dumper=_Flow, default_flow_style=True, width=10**9, sort_keys=False, allow_unicode=True)
    text = " ".join(text.removesuffix("...\n").split())
    return text if len(text) <= longest else text[: longest - 3] + "..."


def _begin(value: Any, longest: int, depth: int = 0) -> Any:
    """As much of a value as can be shown."""
    if isinstance(value, str):
        return value[: longest + 1]
    if isinstance(value, (dict, list)) and depth > longest // 2:
        return None
    if isinstance(value, dict):
        return {_begin(name, longest): _begin(inner, longest, depth + 1) for name, inner in islice(value.items(), longest // 2)}
    if isinstance(value, list):
        return [_begin(inner, longest, depth + 1) for inner in value[: longest // 2]]
    return value


def example(schema: Schema) -> Any:
    """A value that the field takes."""
    if examples := schema.get("examples", schema.get("enum")):
        return examples[0]
    if "default" in schema:
        return schema["default"]
    if schema.get("type") == "object":
        return {name: example(schema["properties"][name]) for name in schema.get("required", ())}
    if schema.get("type") == "array":
        return [example(schema["items"])]
    return {"boolean": True, "string": "text"}.get(schema.get("type", ""), schema.get("minimum", 1))


def missing(path: Path, schema: Schema) -> tuple[str, str]:
    """Rule and way out for a required field that is not there."""
    return "it is required", f"Add {path[-1]}: {shown(example(schema), 200)}"


def wrong(value: Any, schema: Schema, name: str) -> tuple[str, str]:
    """Rule and way out for a value that its field does not take. Falls back to what the field takes in general."""
    if not _has_type(value, schema):
        return _wrong_type(value, schema, name)
    if "enum" in schema and value not in schema["enum"]:
        return _wrong_word(value, schema)
    if isinstance(value, str):
        return _wrong_text(value, schema)
    if isinstance(value, (int, float)):
        return _wrong_number(value, schema)
    return _wrong_size(value, schema)


def _has_type(value: Any, schema: Schema) -> bool:
    if isinstance(value, bool) and schema.get("type") != "boolean":
        return False
    if "type" not in schema:
        return isinstance(value, (int, str))
    return isinstance(value, _TYPES[schema["type"]])


def _wrong_type(value: Any, schema: Schema, name: str) -> tuple[str, str]:
    kind = schema.get("type", "int-or-string")
    rule = f"it must be {_TAKES[kind]}" if kind in _TAKES else _looks(schema)
    if kind == "string" and ("enum" in schema or "examples" in schema):
        rule = _looks(schema)
    if isinstance(value, str) and kind in ("integer", "number", "boolean"):
        return _text_for_number(value, rule, schema, name)
    if kind == "array":
        return rule, f"Write {name}: {shown([value])}"
    if kind == "object":
        return rule, _as_section(value, schema, name)
    if isinstance(value, bool) and kind == "string":
        return rule, f"YAML reads on, off, yes and no as booleans: write {name}: {shown(example(schema))}"
    if kind in ("string", "int-or-string") and not isinstance(value, (list, dict)) and _fits(str(value), schema):
        return rule, f'Put it in quotes: "{value}"'
    meant = _meant_by_number(value, kind)
    return rule, f"Write {name}: {shown(meant if _fits(meant, schema) else example(schema))}"


def _meant_by_number(value: Any, kind: str) -> int | bool | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or kind not in ("integer", "boolean"):
        return None
    return bool(value) if kind == "boolean" else round(value)


def _as_section(value: Any, schema: Schema, name: str) -> str:
    """`parallelism: auto` -> parallelism: {auto: true}; `schedule: cosine` -> schedule: {name: cosine}."""
    if isinstance(value, list):
        return f"Take the dash or the brackets away: {name} is one section"
    properties: Schema = schema.get("properties", {})
    if isinstance(value, str) and properties.get(value, {}).get("type") == "boolean":
        return f"Write {name}: {shown({value: True})}"
    field = next((field for field, inner in properties.items() if _fits(value, inner)), None)
    return f"Write {name}: {shown({field: value})}" if field else f"Write {name}: {shown(example(schema), 200)}"


def _fits(value: Any, schema: Schema) -> bool:
    """Whether a single value is one the field takes."""
    if not _has_type(value, schema) or isinstance(value, (list, dict)):
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


def _wrong_word(value: Any, schema: Schema) -> tuple[str, str]:
    words = schema["enum"]
    near = difflib.get_close_matches(str(value).lower(), [str(word).lower() for word in words], n=1, cutoff=0.5)
    nearest = next((word for word in words if near and str(word).lower() == near[0]), None)
    return _looks(schema), f"Write {nearest}" if nearest is not None else "Write one of these"


def _wrong_text(text: str, schema: Schema) -> tuple[str, str]:
    if not text:
        return "it must not be empty", f"Write {shown(example(schema))}, or leave the field out"
    if beside := _beside(text, schema):
        return _looks(
            schema
        ), f"Write {beside} for a path {'in your home directory' if '~' in beside else 'beside the manifest'}, or an absolute path"
    repaired = _repaired(text, schema)
    way_out = f"Write {repaired}" if repaired else f"Write it like {shown(example(schema))}"
    if len(text) > schema.get("maxLength", len(text)):
        return f"it must have at most {schema['maxLength']} characters", way_out if "pattern" in schema else "Shorten it"
    return _looks(schema), way_out


def fitting(value: Any, schema: Schema) -> Any:
    """The value itself where the field takes it, or what was probably meant; None where that is not known."""
    if isinstance(value, list) and schema.get("type") == "array":
        return value if all(_fits(item, schema["items"]) for item in value) else None
    if _fits(value, schema):
        return value
    if not isinstance(value, str):
        return None
    if schema.get("type") in ("integer", "number", "boolean"):
        return next((meant for meant in meanings(value) if _fits(meant, schema)), None)
    return (_beside(value, schema) or _repaired(value, schema)) if schema.get("type") == "string" else None


def _repaired(text: str, schema: Schema) -> str | None:
    near = difflib.get_close_matches(text.lower(), schema["examples"], n=1) if "anyOf" in schema else []
    return next((each for each in [*near, *_repairs(text, schema.get("maxLength", 0))] if _fits(each, schema)), None)


def _text_for_number(text: str, rule: str, schema: Schema, name: str) -> tuple[str, str]:
    """Text where a number or a truth value is wanted: most often in quotes, or as people write numbers."""
    meant = next((each for each in meanings(text) if _fits(each, schema)), None)
    if meant is None:
        return rule, f"Write {name}: {shown(example(schema))}"
    if re.fullmatch(r"[-+]?0[0-9]+", text):
        return f"{rule}, and one that begins with 0 is octal to YAML", f"Write {shown(meant)}"
    return rule, f"Write {shown(meant)} without quotes" if is_scalar(text) else f"Write {name}: {shown(meant)}"


def _beside(text: str, schema: Schema) -> str | None:
    """A relative path where a URI is wanted, as the commands on a laptop take it. owner/name may as well be a repository."""
    if not any(str(one).startswith("file:///") for one in schema.get("examples", ())):
        return None
    path = re.fullmatch(r"(file:|file://)?((?:\.{1,2}/|~/)*[\w*?\[][^:\n]*/?|~/?|\.{1,2}/?)", text.strip())
    hub = any(str(one).startswith("hf://") for one in schema["examples"])
    if path is None or (hub and path[1] is None and _may_be_elsewhere(text)):
        return None
    return f"file://{path[2]}" if path[2].startswith((".", "~")) else f"file://./{path[2]}"


def _may_be_elsewhere(text: str) -> bool:
    """owner/name may be a repository, and a word anything."""
    repository = re.fullmatch(r"[\w.-]+/[\w.-]+", text) and not text.startswith((".", "~")) and not _FILE.search(text)
    return bool(repository) or not ("/" in text or "." in text or text == "~")


_FILE = re.compile(r"\.(txt|json|jsonl|ndjson|csv|tsv|parquet|gz|zst|safetensors|bin|md)$", re.IGNORECASE)
"""A name that ends so is a file's, not a repository's."""


def _looks(schema: Schema) -> str:
    """What a word, a pattern or an int-or-string takes, by its choices or its examples."""
    if "enum" in schema:
        return f"it must be {either(schema['enum'])}"
    if "type" not in schema:
        return f"it must be {either(['a whole number', *schema['examples']])}"
    return f"it must look like {either(schema['examples'])}"


def _repairs(text: str, longest: int) -> Iterator[str]:
    """What was probably meant: an address without its scheme, a name with capitals, a span with blanks."""
    yield text.strip()
    yield from _addresses(text.strip())
    yield "-".join(text.split())
    yield "".join(text.split())
    yield "".join(text.split()).lower()
    yield text.rstrip("bB")
    yield re.sub(r"^(file:/*|(?=/))", "file:///", text).replace("////", "///")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", text):
        yield f"hf://{text}"
    name = re.sub(r"[^a-z0-9]+", "-", text.lower())[: longest or None].strip("-")
    if "/" not in text:
        yield name


def _addresses(text: str) -> Iterator[str]:
    """An address under another name of its scheme, or as a browser shows it."""
    if page := re.fullmatch(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/(?:datasets/)?([\w.-]+/[\w.-]+)(?:/.*)?/?", text):
        yield f"hf://{page[1]}"
    if store := re.fullmatch(r"https?://([\w.-]+)\.s3[\w.-]*\.amazonaws\.com/(.*)", text):
        yield f"s3://{store[1]}/{store[2]}"
    if given := re.fullmatch(r"([A-Za-z0-9]+):/{0,2}(.+)", text):
        scheme = {"s3a": "s3", "s3n": "s3", "huggingface": "hf", "hub": "hf", "pvcs": "pvc"}.get(given[1].lower(), given[1].lower())
        yield f"{scheme}://{'/' if scheme == 'file' else ''}{given[2].lstrip('/')}"


def _wrong_number(value: float, schema: Schema) -> tuple[str, str]:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and (value < low or (value == low and schema.get("exclusiveMinimum"))):
        if schema.get("exclusiveMinimum"):
            return f"it must be above {low:g}", f"Write a number above {low:g}, such as {shown(schema.get('default', low + 1))}"
        return f"it must be at least {low:g}", f"Write {low:g} or more"
    if high is not None:
        word = "below" if schema.get("exclusiveMaximum") else "at most"
        return (
            f"it must be {word} {_whole(high)}",
            f"Write {'a number below ' + _whole(high) if word == 'below' else _whole(high) + ' or less'}",
        )
    return _wrong_type(value, schema, "it")


def _whole(number: float) -> str:
    return str(int(number)) if number == int(number) else f"{number:g}"


def _wrong_size(value: Any, schema: Schema) -> tuple[str, str]:
    noun = "items" if isinstance(value, list) else "fields"
    low = schema.get("minItems", 0)
    high = schema.get("maxItems", schema.get("maxProperties"))
    if low == high:
        return f"it must have exactly {low} {noun}", f"Write {shown(example(schema))}"
    if len(value) < low:
        return f"it must have at least {low} {noun.rstrip('s') if low == 1 else noun}", f"Write {shown(example(schema))}"
    return f"it must have at most {high} {noun}", "Shorten it"


def either(words: list[Any]) -> str:
    *most, last = [str(word) for word in words]
    return f"{', '.join(most)} or {last}" if most else last
