"""Types -> structural schema: what Kubernetes can store of a pydantic model. The CRD is made of it; parsing takes names and defaults.

A structural schema says the type of every value outside of anyOf, has no references, and no null. The rules are those of Kubernetes'
apiextensions/v1; what cannot be said in them raises TypeError when the schema is made, never when a manifest is read.
"""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import BaseModel

from llmtrain_trainer.config.tables.tasks import TASKS
from llmtrain_trainer.config.training import FINE_TUNING

Schema = dict[str, Any]

# `examples` and `propertyNames` stay in for the words of a refusal; the CRD drops them.
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
    """A choice of words, of words and a pattern, or of words and a number. Anything else has no structural form."""
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
    """OpenAPI 3.0's way of saying const, pairs, open bounds, map sizes and absent defaults."""
    if "const" in s:
        s["enum"] = [s.pop("const")]
    if "patternProperties" in s:  # names of a map that must look like something: Kubernetes cannot say it, a refusal can
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
    if FINE_TUNING in s:  # which default it is depends on the task: see `for_task`
        default = s.pop("default")
        s["examples"] = [default]
        s["description"] += f" Default: {json.dumps(default)} in task pretrain, {json.dumps(s[FINE_TUNING])} in every other."
    if s.get("default", ...) is None:
        del s["default"]
    if "description" in s:
        s["description"] = " ".join(s["description"].split())
    if s.get("type") == "integer":
        s["format"] = "int64"
    return s


def _descend(s: Schema, definitions: Schema, stack: tuple[str, ...], path: str) -> Schema:
    """Properties, maps and lists. A map of anything keeps its fields, since nobody here knows them."""
    if "properties" in s:
        s.pop("additionalProperties", None)
        s["properties"] = {name: _convert(p, definitions, stack, f"{path}.{name}") for name, p in s["properties"].items()}
        if "default" in s:
            # Written out in full: the API server checks a default against the CEL rules before it fills in the defaults inside.
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
    """The value as the API server sees it when it checks CEL rules: defaults filled in, nulls left out. Wrong types pass through."""
    if isinstance(value, dict) and "properties" in schema:
        filled = {name: p["default"] for name, p in schema["properties"].items() if "default" in p}
        filled |= {name: part for name, part in value.items() if part is not None}
        return {name: defaulted(part, schema["properties"].get(name, {})) for name, part in filled.items()}
    if isinstance(value, list) and "items" in schema:
        return [defaulted(item, schema["items"]) for item in value]
    return value


PRETRAINING = [name for name, traits in TASKS.items() if not traits.fine_tunes]


def for_task(value: Any, schema: Schema, task: object) -> Any:
    """The value with the defaults that depend on the task: fine-tuning's, where the task is not pretrain. The types hold pretraining's."""
    if task in PRETRAINING or not isinstance(value, dict) or "properties" not in schema:
        return value
    parts = schema["properties"]
    filled = {name: part[FINE_TUNING] for name, part in parts.items() if FINE_TUNING in part} | value
    return {name: for_task(part, parts.get(name, {}), task) for name, part in filled.items()}


def below(schema: Schema, path: tuple[str | int, ...]) -> Schema | None:
    """The schema of a value deep inside, or None where the path leads out of the known fields."""
    for step in path:
        inner = schema.get("items") if isinstance(step, int) else schema.get("properties", {}).get(step, schema.get("additionalProperties"))
        if inner is None:
            return None
        schema = inner
    return schema
