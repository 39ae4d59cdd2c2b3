"""Types -> structural schema, the form of a pydantic model that Kubernetes can store. The CRD contains it; parsing uses it.

A structural schema has the type of every value outside of anyOf, no references, and no null, by the rules of Kubernetes'
apiextensions/v1. A type that it cannot express raises TypeError when the schema is built, never when a manifest is read.
"""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import BaseModel

from llmtrain_trainer.config.tables.tasks import TASKS
from llmtrain_trainer.config.training import FINE_TUNING

Schema = dict[str, Any]

# `examples` and `propertyNames` are kept for the messages of refusals; the CRD drops them.
_DROPPED = {"title", "$schema", "$defs", "discriminator", "deprecated", "readOnly", "writeOnly"}
_VALUE_RULES = ("enum", "pattern", "minLength", "maxLength", "minimum", "maximum")


def structural(model: type[BaseModel]) -> Schema:
    """The structural schema of a model, descriptions and defaults included."""
    raw = model.model_json_schema(by_alias=True, mode="validation")
    return _convert(raw, raw.get("$defs", {}), (), model.__name__)


def _convert(schema: Schema, definitions: Schema, stack: tuple[str, ...], path: str) -> Schema:
    s = dict(schema)
    if "$ref" in s:
        name = s.pop("$ref").removeprefix("#/$defs/")
        if name in stack:
            raise TypeError(f"{path}: {name} contains itself, which a structural schema cannot say")
        return _convert({**definitions[name], **s}, definitions, (*stack, name), path)
    if "anyOf" in s:
        options = [option for option in s.pop("anyOf") if option.get("type") != "null"]
        if len(options) == 1:
            return _convert({**options[0], **s}, definitions, stack, path)
        s |= _union([_convert(option, definitions, stack, path) for option in options], path)
    s = _plain({key: value for key, value in s.items() if key not in _DROPPED}, path)
    return _descend(s, definitions, stack, path)


def _union(options: list[Schema], path: str) -> Schema:
    """The schema of a union: of words, of words and a pattern, or of words and a number. Raises TypeError for any other."""
    types = {option.get("type") for option in options}
    examples = [example for option in options for example in option.get("examples") or option.get("enum", [])]
    if len(types) == 1 and all("enum" in option for option in options):
        return {"type": types.pop(), "enum": [word for option in options for word in option["enum"]]}
    if types == {"string"}:
        rules = [{key: option[key] for key in _VALUE_RULES if key in option} for option in options]
        return {"type": "string", "anyOf": rules, "examples": examples}
    if types == {"string", "integer"}:
        words = next(option for option in options if option["type"] == "string")
        pattern = words.get("pattern") or f"^({'|'.join(re.escape(word) for word in words['enum'])})$"
        number = next(option for option in options if option["type"] == "integer")
        bounds: Schema = {key: number[key] for key in ("minimum", "maximum") if key in number}
        either = [{"type": "integer"}, {"type": "string"}]
        return {"x-kubernetes-int-or-string": True, "anyOf": either, "pattern": pattern, **bounds, "examples": examples}
    raise TypeError(f"{path}: a union of {sorted(map(str, types))} is not structural")


def _plain(s: Schema, path: str) -> Schema:
    """The schema with const, pairs, exclusive bounds, map sizes and absent defaults in OpenAPI 3.0's form."""
    if "const" in s:
        s["enum"] = [s.pop("const")]
    if "patternProperties" in s:  # a pattern for keys of a map: not supported by Kubernetes, but useful for refusals
        ((pattern, values),) = s.pop("patternProperties").items()
        s |= {"additionalProperties": values, "propertyNames": {**s.get("propertyNames", {}), "pattern": pattern}}
    if "prefixItems" in s:
        first, *others = s.pop("prefixItems")
        if any(other != first for other in others):
            raise TypeError(f"{path}: a tuple of different types is not structural")
        s["items"] = first
    for bound, open_bound in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if open_bound in s:
            s[bound], s[open_bound] = s[open_bound], True
    if FINE_TUNING in s:  # the default depends on the task: see `for_task`
        default = s.pop("default")
        s["examples"] = [default]
        s["description"] += f" Default: {json.dumps(default)} for task pretrain, {json.dumps(s[FINE_TUNING])} for every other task."
    if s.get("default", ...) is None:
        del s["default"]
    if "description" in s:
        s["description"] = " ".join(s["description"].split())
    if s.get("type") == "integer":
        s["format"] = "int64"
    return s


def _descend(s: Schema, definitions: Schema, stack: tuple[str, ...], path: str) -> Schema:
    """Convert properties, maps and lists. A map without a type keeps unknown fields."""
    if "properties" in s:
        s.pop("additionalProperties", None)
        s["properties"] = {name: _convert(p, definitions, stack, f"{path}.{name}") for name, p in s["properties"].items()}
        if "default" in s:
            # Written in full, because the API server checks a default against the CEL rules before it fills in nested defaults.
            by_task = {name for name, p in s["properties"].items() if FINE_TUNING in p}
            s["default"] = defaulted({name: value for name, value in s["default"].items() if name not in by_task}, s)
    elif s.get("type") == "object":
        values = s.pop("additionalProperties", True)
        if isinstance(values, dict):
            s["additionalProperties"] = _convert(values, definitions, stack, f"{path}[*]")
        else:
            s["x-kubernetes-preserve-unknown-fields"] = True
    elif s.get("type") == "array":
        s["items"] = _convert(s["items"], definitions, stack, f"{path}[]")
    elif "type" not in s and "x-kubernetes-int-or-string" not in s:
        raise TypeError(f"{path}: it has no type")
    return s


def defaulted(value: Any, schema: Schema) -> Any:
    """The value as the API server sees it when it evaluates CEL rules: with defaults, without nulls. Wrong types are kept."""
    if isinstance(value, dict) and "properties" in schema:
        filled = {name: p["default"] for name, p in schema["properties"].items() if "default" in p}
        filled |= {name: part for name, part in value.items() if part is not None}
        return {name: defaulted(part, schema["properties"].get(name, {})) for name, part in filled.items()}
    if isinstance(value, list) and "items" in schema:
        return [defaulted(item, schema["items"]) for item in value]
    return value


PRETRAINING = [name for name, traits in TASKS.items() if not traits.fine_tunes]


def for_task(value: Any, schema: Schema, task: object) -> Any:
    """The value with the defaults of fine-tuning, if the task fine-tunes. The types have the defaults of pretraining."""
    if task in PRETRAINING or not isinstance(value, dict) or "properties" not in schema:
        return value
    parts = schema["properties"]
    filled = {name: part[FINE_TUNING] for name, part in parts.items() if FINE_TUNING in part} | value
    return {name: for_task(part, parts.get(name, {}), task) for name, part in filled.items()}


def below(schema: Schema, path: tuple[str | int, ...]) -> Schema | None:
    """The schema of the value at `path`, or None if there is no such field."""
    for step in path:
        inner = schema.get("items") if isinstance(step, int) else schema.get("properties", {}).get(step, schema.get("additionalProperties"))
        if inner is None:
            return None
        schema = inner
    return schema
