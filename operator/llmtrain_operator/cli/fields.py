"""`llmtrain explain` and `llmtrain version`. The texts of `explain` come from the types themselves."""

from __future__ import annotations

import difflib
import re
import textwrap
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from llmtrain_operator.cli.refusal import UsageError
from llmtrain_operator.version import version as installed
from llmtrain_trainer.config.training import FINE_TUNING

WIDTH = 120
"""Characters of a line."""

MOST_MEANT = 3
"""Largest number of fields that a hint names."""


def explain(
    field: Annotated[str, typer.Argument(help="A path in the manifest, such as spec.training.microBatchSize.", metavar="FIELD")],
) -> None:
    """Say what a field means."""
    for line in explanation(field):
        typer.echo(line)


def version() -> None:
    """Print the version."""
    typer.echo(f"llmtrain {installed() or 'of an image, whose tag is the version'}")


def explanation(path: str) -> list[str]:
    """The lines of `llmtrain explain`. Raises UsageError, with the nearest name, if there is no such field."""
    from llmtrain_operator.api.job import LLMTrainJob

    model: type[BaseModel] = LLMTrainJob
    found: FieldInfo | None = None
    names = re.sub(r"\[\d*\]", "", path).strip(".").split(".")
    for depth, name in enumerate(names):
        inside = _models(found.annotation) if found is not None else [LLMTrainJob]
        if not inside:
            raise UsageError(f"{'.'.join(names[:depth])} has no fields of its own.")
        model = inside[0]
        found = _field(model, name, ".".join(names[:depth]))
    assert found is not None  # split gives at least one name
    meaning = found.description or model.__doc__ or ""
    lines = [f"{path}: {type_text(found.annotation, found.metadata)}", "", *_wrapped("  ", meaning)]
    if not found.is_required():
        lines.append(f"  Default: {_default(found)}")
    for section in _models(found.annotation):
        lines += ["", "Fields:", *(line for name, child in _children(section).items() for line in _child(name, child))]
    return lines


def type_text(annotation: Any, metadata: list[Any] | None = None) -> str:
    """A type in plain words: `integer, at least 1`, `one of bf16, fp32`, `list of objects`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_text(arguments[0], [rule for extra in arguments[1:] for rule in getattr(extra, "metadata", [extra])])
    if origin is Literal:
        return "one of " + ", ".join(str(value) for value in arguments)
    if origin is tuple:
        return f"list of {_plural(type_text(arguments[0]))}"
    if origin is dict:
        return "object"
    if arguments:
        return " or ".join(type_text(argument, metadata) for argument in arguments if argument is not type(None))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "object"
    word = {bool: "true or false", int: "integer", float: "number", str: "text"}.get(annotation, "any value")
    return word + "".join(_bounds(metadata or []))


def _bounds(metadata: list[Any]) -> list[str]:
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return [f", {word} {getattr(rule, name)}" for rule in metadata for name, word in words.items() if getattr(rule, name, None) is not None]


def _plural(word: str) -> str:
    return {"object": "objects", "text": "texts", "number": "numbers", "integer": "integers"}.get(word, word)


def _field(model: type[BaseModel], name: str, parent: str) -> FieldInfo:
    children = _children(model)
    if name in children:
        return children[name]
    nearest = difflib.get_close_matches(name, children, n=1)
    meant = [f"{parent}.{nearest[0]}" if parent else nearest[0]] if nearest else _elsewhere(name)
    hint = f" Did you mean {' or '.join(meant)}?" if meant else f" It has: {', '.join(children)}."
    raise UsageError(f"{parent or 'The manifest'} has no field {name}.{hint}")


def _elsewhere(name: str) -> list[str]:
    """Paths of fields with that name, or a similar one, anywhere in the spec. Empty if there are many."""
    from llmtrain_operator.api.job import LLMTrainJob

    paths = [path for path in _paths(LLMTrainJob) if path.startswith("spec.")]
    leaves = {path.rpartition(".")[2] for path in paths}
    nearest = [name] if name in leaves else difflib.get_close_matches(name, leaves, n=1)
    found = [path for path in paths if path.rpartition(".")[2] in nearest]
    return found if len(found) <= MOST_MEANT else []


def _paths(model: type[BaseModel], before: str = "") -> list[str]:
    """The path of every field below a section, in the form that `llmtrain explain` takes."""
    found = []
    for name, child in _children(model).items():
        found.append(before + name)
        for section in _models(child.annotation):
            found += _paths(section, f"{before}{name}.")
    return found


def _children(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {child.alias or name: child for name, child in model.model_fields.items()}


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The sections that a field holds: itself, or the items of its list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]


def _default(field: FieldInfo) -> str:
    other = field.json_schema_extra.get(FINE_TUNING) if isinstance(field.json_schema_extra, dict) else None
    usual = _value(field.get_default(call_default_factory=True))
    return usual if other is None else f"{usual} for task pretrain, {_value(other)} for every other task, as in Hugging Face's Trainer"


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, BaseModel):
        return "its fields' defaults"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(str(item) for item in value) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value) or '""'


def _child(name: str, field: FieldInfo) -> list[str]:
    required = " (required)" if field.is_required() else ""
    return _wrapped(f"  {name:<26} ", f"{field.description or ''}{required}")


def _wrapped(first: str, text: str) -> list[str]:
    """The text wrapped to lines of WIDTH characters. Paragraphs are joined."""
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=" " * len(first), break_on_hyphens=False)
