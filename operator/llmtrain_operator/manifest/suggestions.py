"""The texts of refusals of a value: what a field accepts, and what to write instead.

The texts come from the structural schema, so that a new field needs no text of its own: its bounds, its choices and its `examples`.
"""

from __future__ import annotations

import difflib
import re
from itertools import islice
from typing import Any

import yaml

from llmtrain_operator.manifest.document import Path
from llmtrain_operator.manifest.meant import as_list, as_pairs, as_section, beside, fits, has_type, of_number, repaired
from llmtrain_operator.manifest.numerals import is_scalar, meanings
from llmtrain_operator.manifest.schema import Schema

_TAKES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a section with fields",
}


class _Flow(yaml.SafeDumper):
    """Dumps YAML on one line, without aliases."""

    def ignore_aliases(self, _: Any) -> bool:
        return True


def _quoted(dumper: _Flow, text: str) -> yaml.Node:
    """Text with quotes if it would otherwise be a number or a boolean; pyyaml would omit them for 1e-4."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="'" if is_scalar(text) else None)


_Flow.add_representer(str, _quoted)


def shown(value: Any, longest: int = 80) -> str:
    """A value as YAML on one line, truncated to `longest` characters."""
    text = yaml.dump(_begin(value, longest), Dumper=_Flow, default_flow_style=True, width=10**9, sort_keys=False, allow_unicode=True)
    text = " ".join(text.removesuffix("...\n").split())
    return text if len(text) <= longest else text[: longest - 3] + "..."


def _begin(value: Any, longest: int, depth: int = 0) -> Any:
    """The beginning of a value, as much as can be shown."""
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
    """A value that the field accepts."""
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
    """Rule and way out for a required field that is missing."""
    if isinstance(path[-1], int):
        return "it is required", f"Give {path[-2]} an item more, such as {shown(example(schema), 200)}"
    return "it is required", f"Add {path[-1]}: {shown(example(schema), 200)}"


def wrong(value: Any, schema: Schema, name: str) -> tuple[str, str]:
    """Rule and way out for a value that its field does not accept."""
    if not has_type(value, schema):
        return _wrong_type(value, schema, name)
    if "enum" in schema and value not in schema["enum"]:
        return _wrong_word(value, schema)
    if isinstance(value, str):
        return _wrong_text(value, schema)
    if isinstance(value, (int, float)):
        return _wrong_number(value, schema)
    return _wrong_size(value, schema)


def _wrong_type(value: Any, schema: Schema, name: str) -> tuple[str, str]:
    kind = schema.get("type", "int-or-string")
    rule = f"it must be {_TAKES[kind]}" if kind in _TAKES else _looks(schema)
    if kind == "string" and ("enum" in schema or "examples" in schema):
        rule = _looks(schema)
    if isinstance(value, str) and kind in ("integer", "number", "boolean"):
        return _text_for_number(value, rule, schema, name)
    if kind == "array":
        items = as_list(value, schema)
        return rule, f"Write {name}: {shown(example(schema) if items is None else items, 200)}"
    if kind == "object":
        return rule, _as_section(value, schema, name)
    if value is None:
        return rule, f"Write {name}: {shown(example(schema))}, or leave it out"
    if isinstance(value, bool) and kind == "string" and not set(schema) & {"enum", "pattern", "examples"}:
        return rule, f'Put it in quotes: "{shown(value)}"'
    if isinstance(value, bool) and kind == "string":
        return rule, f"YAML reads on, off, yes and no as booleans: write {name}: {shown(example(schema))}"
    if kind == "string" and isinstance(value, int) and fits(f"{value}s", schema) and not fits(str(value), schema):
        return rule, f"Write {name}: {value}s, or another unit: m, h or d"
    if kind in ("string", "int-or-string") and not isinstance(value, (list, dict)) and fits(str(value), schema):
        return rule, f'Put it in quotes: "{value}"'
    meant = of_number(value, kind)
    return rule, f"Write {name}: {shown(meant if fits(meant, schema) else example(schema))}"


def _as_section(value: Any, schema: Schema, name: str) -> str:
    """The way out for a value where a section is expected."""
    if isinstance(value, list) and "additionalProperties" in schema and (pairs := as_pairs(value)):
        return f"Write {name}: {shown(pairs, 200)}"
    if isinstance(value, list):
        return f"Remove the dash or the brackets: {name} is one section"
    if value is False:
        return f"Leave {name} out"
    meant = as_section(value, schema)
    if meant is None and not example(schema) and (names := list(schema.get("properties", {}))):
        return f"Give fields of its own below {name}: {either(names)}"
    start = "-" if name.isdigit() else f"{name}:"
    return f"Write {start} {shown(example(schema) if meant is None else meant, 200)}"


def _wrong_word(value: Any, schema: Schema) -> tuple[str, str]:
    words = schema["enum"]
    near = difflib.get_close_matches(str(value).lower(), [str(word).lower() for word in words], n=1, cutoff=0.5)
    nearest = next((word for word in words if near and str(word).lower() == near[0]), None)
    return _looks(schema), f"Write {nearest}" if nearest is not None else "Write one of these"


def _wrong_text(text: str, schema: Schema) -> tuple[str, str]:
    if not text:
        return "it must not be empty", f"Write {shown(example(schema))}, or leave the field out"
    if (path := beside(text, schema)) is not None:
        where = "in your home directory" if "~" in path else "relative to the manifest"
        return _looks(schema), f"Write {path} for a path {where}, or an absolute path"
    meant = repaired(text, schema)
    way_out = f"Write {meant}" if meant else f"Write it like {shown(example(schema))}"
    if len(text) > schema.get("maxLength", len(text)):
        return f"it must have at most {schema['maxLength']} characters", way_out if "pattern" in schema else "Shorten it"
    return _looks(schema), way_out


def _text_for_number(text: str, rule: str, schema: Schema, name: str) -> tuple[str, str]:
    """Rule and way out for text where a number or a boolean is expected: usually quoted, or with separators."""
    meant = next((each for each in meanings(text) if fits(each, schema)), None)
    if meant is None:
        return rule, f"Write {name}: {shown(example(schema))}"
    if re.fullmatch(r"[-+]?0[0-9]+", text):
        return f"{rule}, and YAML reads a number that begins with 0 as octal", f"Write {shown(meant)}"
    return rule, f"Write {shown(meant)} without quotes" if is_scalar(text) else f"Write {name}: {shown(meant)}"


def _looks(schema: Schema) -> str:
    """The rule for a word, a pattern or an int-or-string, from its choices or its examples."""
    if "enum" in schema:
        return f"it must be {either(schema['enum'])}"
    if "type" not in schema:
        return f"it must be {either(['a whole number', *schema['examples']])}"
    return f"it must look like {either(schema['examples'])}"


def _wrong_number(value: float, schema: Schema) -> tuple[str, str]:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and (value < low or (value == low and schema.get("exclusiveMinimum"))):
        if schema.get("exclusiveMinimum"):
            return f"it must be above {low:g}", f"Write a number above {low:g}, such as {shown(_above(low, schema))}"
        return f"it must be at least {low:g}", f"Write {low:g} or more"
    if high is not None:
        word = "below" if schema.get("exclusiveMaximum") else "at most"
        return (
            f"it must be {word} {_whole(high)}",
            f"Write {'a number below ' + _whole(high) if word == 'below' else _whole(high) + ' or less'}",
        )
    return _wrong_type(value, schema, "it")


def _above(low: float, schema: Schema) -> Any:
    found = example(schema)
    return found if found > low else low + 1


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
