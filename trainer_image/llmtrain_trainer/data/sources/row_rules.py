"""Which rows are kept and what they become: `where` and `template` of a dataset, written in Jinja and run without access to Python."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from jinja2 import UndefinedError
from jinja2.meta import find_undeclared_variables

from llmtrain_trainer.config.dataset import Dataset, RowTemplate
from llmtrain_trainer.config.tables.row_expressions import (
    TEMPLATE_WAY_OUT,
    WHERE_WAY_OUT,
    bracketed,
    environment,
    expression_of,
    template_of,
    true_or_false,
)
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.blame import first_line
from llmtrain_trainer.data.sources.readers import Row
from llmtrain_trainer.data.sources.reading import Reading
from llmtrain_trainer.data.sources.wanted import COLUMN_KEYS, PART_KEYS
from llmtrain_trainer.data.template_bounds import bounded

_ENVIRONMENT = environment()

_UNDEFINED = re.compile(r"'(.*)' is undefined")

Run = Callable[[Mapping[str, Any]], Any]
"""Takes the values of a row."""


class RowRules:
    """`where` and `template` of one dataset, compiled. A column that a row leaves out is null, and `counted` counts such rows.

    Raises BadData where one is not Jinja.
    """

    def __init__(self, field: str, dataset: Dataset, counted: Reading) -> None:
        self._field, self._names, self._counted = field, named_columns(dataset), counted
        self._condition = _condition(field, dataset)
        self._templates = dict(_templates(field, dataset))

    def keep(self, row: Row) -> bool:
        """Whether the row meets `where`. Raises BadData with the row."""
        self._counted.add_columns(self._names, row.values.keys())
        return self._condition is None or bool(self._tried(row, "where", self._condition))

    def made(self, row: Row) -> Row:
        """The row with what its templates write. Raises BadData with the row."""
        if not self._templates:
            return row
        made = self._tried(row, "template", lambda values: {column: write(values) for column, write in self._templates.items()})
        return replace(row, values={**row.values, **made})

    def _tried(self, row: Row, what: str, run: Run) -> Any:
        try:
            with bounded():
                return self._computed(row, what, run)
        except Exception as error:  # an expression raises what its operators do
            rule = f"{self._field}.{what} cannot be computed ({first_line(error)}; found {', '.join(map(str, row.values))[:200]})"
            raise BadData(f"{self._field}.source", row.place, rule, f"Correct the row or {self._field}.{what}") from error

    def _computed(self, row: Row, what: str, run: Run) -> Any:
        """With a column that no row had until now it is first tried without: whether it asks before it uses the column shows whether
        the column may be misspelt."""
        try:
            return run({**dict.fromkeys(self._counted.present), **row.values})
        except UndefinedError as error:
            name = found[1] if (found := _UNDEFINED.fullmatch(str(error))) else None
            if name not in self._names - self._counted.present:
                raise
            try:
                made = run({**dict.fromkeys(self._names), **row.values})
            except Exception:  # what it does with null is no clearer
                raise error from None
            self._counted.needed.setdefault(name, what)
            return made


def read_columns(dataset: Dataset) -> tuple[str, ...]:
    """Columns that files have to have: those that the format reads, or what their templates read."""
    templates = _given(dataset)
    names = ((key, getattr(dataset.columns, key)) for key in COLUMN_KEYS[dataset.format])
    found = (sorted(_names(templates[key])) if key in templates else [column] for key, column in names)
    return tuple(dict.fromkeys(name for some in found for name in some))


def named_columns(dataset: Dataset) -> frozenset[str]:
    """Columns that `where` and `template` read."""
    texts = (*_given(dataset).values(), *([bracketed(dataset.where)] if dataset.where else ()))
    try:
        return frozenset[str]().union(*map(_names, texts))
    except Exception:  # what is no Jinja, or takes too much
        return frozenset()  # told when they are compiled


@lru_cache(maxsize=256)
def _names(text: str) -> frozenset[str]:
    with bounded():
        return frozenset(find_undeclared_variables(_ENVIRONMENT.parse(text)))


def _given(dataset: Dataset) -> dict[str, str]:
    return dataset.template.model_dump(exclude_none=True) if dataset.template else {}


def _condition(field: str, dataset: Dataset) -> Run | None:
    if dataset.where is None:
        return None
    try:
        _names(bracketed(dataset.where))
        with bounded():
            expression = expression_of(_ENVIRONMENT, dataset.where)
    except Exception as error:  # compiling computes what is constant, which raises what its operators do
        rule = f"it is not a valid expression ({first_line(error)})"
        raise BadData(f"{field}.where", dataset.where, rule, WHERE_WAY_OUT) from error
    return lambda values: true_or_false(expression(values))


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
                made = template_of(_ENVIRONMENT, text)
        except Exception as error:  # as of `where`
            rule = f"it is not a valid Jinja template ({first_line(error)})"
            raise BadData(f"{field}.template.{key}", text, rule, TEMPLATE_WAY_OUT) from error
        yield getattr(dataset.columns, key), made.render
