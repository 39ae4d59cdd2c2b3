"""Which rows are kept and what they become: `where` and `template` of a dataset, written in Jinja and run without access to Python."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, Undefined
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment

from llmtrain_trainer.config.dataset import Dataset, RowTemplate
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.blame import first_line
from llmtrain_trainer.data.sources.readers import Row
from llmtrain_trainer.data.sources.wanted import COLUMN_KEYS, PART_KEYS
from llmtrain_trainer.data.template_bounds import bounded


def _is_absent(value: Any) -> bool:
    """Null and missing are the same, so that the order of rows makes no difference."""
    return value is None or isinstance(value, Undefined)


def _or_default(value: Any, default_value: Any = "", boolean: bool = False) -> Any:
    return default_value if _is_absent(value) or (boolean and not value) else value


def _as_json(value: Any, ensure_ascii: bool = False, indent: int | None = None) -> str:
    """As the chat templates of transformers write it: in the order of its keys, for no web page."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def _as_text(value: Any) -> Any:
    """What a template may write. Raises TypeError for what would be written as its address in memory."""
    if value is None:
        return ""
    if not isinstance(value, Undefined) and (callable(value) or hasattr(value, "__next__")):
        raise TypeError("it writes a generator, which is no text: end it in | list, | join or ()")
    return value


def _environment() -> ImmutableSandboxedEnvironment:
    """Without what differs from one run to the next."""
    made = ImmutableSandboxedEnvironment(undefined=StrictUndefined, finalize=_as_text, keep_trailing_newline=True)
    made.tests |= {"null": _is_absent, "none": _is_absent, "undefined": _is_absent, "defined": lambda value: not _is_absent(value)}
    made.filters |= {"default": _or_default, "d": _or_default, "tojson": _as_json}
    del made.filters["random"], made.globals["lipsum"]
    return made


_ENVIRONMENT = _environment()

Run = Callable[[Mapping[str, Any]], Any]
"""Takes the values of a row."""


class RowRules:
    """`where` and `template` of one dataset, compiled. Raises BadData where one is not Jinja."""

    def __init__(self, field: str, dataset: Dataset) -> None:
        self._field, self._names = field, named_columns(dataset)
        self._seen: set[str] = set()
        self._condition = _condition(field, dataset)
        self._templates = dict(_templates(field, dataset))

    def keep(self, row: Row) -> bool:
        """Whether the row meets `where`. Raises BadData with the row."""
        return self._condition is None or bool(self._tried(row, "where", self._condition))

    def made(self, row: Row) -> Row:
        """The row with what its templates write. Raises BadData with the row."""
        if not self._templates:
            return row
        made = self._tried(row, "template", lambda values: {column: write(values) for column, write in self._templates.items()})
        return replace(row, values={**row.values, **made})

    def _tried(self, row: Row, what: str, run: Run) -> Any:
        """A column that other rows have and this one leaves out is null."""
        self._seen |= row.values.keys()
        try:
            with bounded():
                return run({**dict.fromkeys(self._seen & self._names), **row.values})
        except Exception as error:  # an expression raises what its operators do
            rule = f"{self._field}.{what} cannot be computed ({first_line(error)}; found {', '.join(map(str, row.values))[:200]})"
            raise BadData(f"{self._field}.source", row.place, rule, f"Correct the row or {self._field}.{what}") from error


def read_columns(dataset: Dataset) -> tuple[str, ...]:
    """Columns that files have to have: those that the format reads, or what their templates read."""
    templates = _given(dataset)
    names = ((key, getattr(dataset.columns, key)) for key in COLUMN_KEYS[dataset.format])
    found = (sorted(_names(templates[key])) if key in templates else [column] for key, column in names)
    return tuple(dict.fromkeys(name for some in found for name in some))


def named_columns(dataset: Dataset) -> frozenset[str]:
    """Columns that `where` and `template` read."""
    texts = (*_given(dataset).values(), *([_bracketed(dataset.where)] if dataset.where else ()))
    try:
        return frozenset[str]().union(*map(_names, texts))
    except Exception:  # what is no Jinja, or takes too much
        return frozenset()  # told when they are compiled


@lru_cache(maxsize=256)
def _names(text: str) -> frozenset[str]:
    with bounded():
        return frozenset(find_undeclared_variables(_ENVIRONMENT.parse(text)))


def _bracketed(expression: str) -> str:
    return "{{ (" + expression + ") }}"


def _given(dataset: Dataset) -> dict[str, str]:
    return dataset.template.model_dump(exclude_none=True) if dataset.template else {}


def _condition(field: str, dataset: Dataset) -> Run | None:
    if dataset.where is None:
        return None
    try:
        _names(_bracketed(dataset.where))
        with bounded():
            expression = _ENVIRONMENT.compile_expression(dataset.where, undefined_to_none=False)
    except Exception as error:  # compiling computes what is constant, which raises what its operators do
        way_out = "Write a Jinja expression over columns, such as rating | int > 3 and text is not null"
        raise BadData(f"{field}.where", dataset.where, f"it is not a valid expression ({first_line(error)})", way_out) from error
    return lambda values: _true_or_false(expression(values))


def _true_or_false(value: Any) -> bool:
    """Raises TypeError for text, of which False and 0 would be true."""
    if isinstance(value, str):
        raise TypeError("it gives text, not true or false: compare it, such as good == 'True'")
    return bool(_as_text(value))


def _templates(field: str, dataset: Dataset) -> Iterator[tuple[str, Run]]:
    """Column -> what writes it."""
    read = (*COLUMN_KEYS[dataset.format], *PART_KEYS.get(dataset.format, ()))
    for key, text in _given(dataset).items():
        if key not in read:
            able = [each for each in read if each in RowTemplate.model_fields]
            way_out = f"Write templates for {', '.join(able)}, or give another format" if able else "Leave template out"
            raise BadData(f"{field}.template.{key}", text, f"format {dataset.format} does not read it", way_out)
        try:
            with bounded():
                made = _ENVIRONMENT.from_string(text)
        except Exception as error:  # as of `where`
            way_out = "Write names of columns in double braces, such as {{ instruction }}"
            raise BadData(f"{field}.template.{key}", text, f"it is not a valid Jinja template ({first_line(error)})", way_out) from error
        yield getattr(dataset.columns, key), made.render
