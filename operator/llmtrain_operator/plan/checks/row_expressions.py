"""`where` and `template` of datasets are compiled as preparation compiles them, so that a mistake is found before anything starts. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

from jinja2 import TemplateError, nodes

from llmtrain_operator.manifest.problem import Problem
from llmtrain_operator.plan.checks.chat_template import MOST_SHOWN, shown
from llmtrain_operator.plan.checks.datasets import datasets_of
from llmtrain_operator.plan.layout.request import LayoutRequest
from llmtrain_trainer.config.dataset import Dataset
from llmtrain_trainer.config.tables.row_expressions import (
    TEMPLATE_WAY_OUT,
    WHERE_WAY_OUT,
    bracketed,
    environment,
    expression_of,
    lazy,
    template_of,
)

MOST_CHARACTERS = 1 << 14
"""That are compiled for one plan; preparation compiles what is beyond."""

_ENVIRONMENT = environment()
lazy(_ENVIRONMENT)

Fault = tuple[str, str]
"""Rule and way out."""


def row_expressions(request: LayoutRequest) -> Problem | None:
    """What cannot be compiled, or reads another template."""
    left = MOST_CHARACTERS
    for field, text, fault in _texts(request):
        left -= len(text)
        if left >= 0 and (found := fault(text)):
            return Problem(field, shown(text), *found)
    return None


def _texts(request: LayoutRequest) -> Iterator[tuple[str, str, Callable[[str], Fault | None]]]:
    for path, dataset in datasets_of(request):
        if dataset.where is not None:
            yield f"{path}.where", dataset.where, _fault_of_where
        yield from ((f"{path}.template.{key}", text, _fault_of_template) for key, text in _templates(dataset))


def _templates(dataset: Dataset) -> Iterator[tuple[str, str]]:
    yield from (dataset.template.model_dump(exclude_none=True, by_alias=True) if dataset.template else {}).items()


@lru_cache(maxsize=256)
def _fault_of_where(text: str) -> Fault | None:
    why = _why(lambda: expression_of(_ENVIRONMENT, text)) or _why(lambda: _ENVIRONMENT.parse(bracketed(text)))
    return (f"it is not a valid expression ({why})", WHERE_WAY_OUT) if why else None


@lru_cache(maxsize=256)
def _fault_of_template(text: str) -> Fault | None:
    why = _why(lambda: template_of(_ENVIRONMENT, text))
    if why:
        return f"it is not a valid Jinja template ({why})", TEMPLATE_WAY_OUT
    if any(_ENVIRONMENT.parse(text).find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends))):
        return "it includes another template, and there is none beside it", "Write all of it here"
    return None


def _why(compiled: Callable[[], object]) -> str | None:
    """Why it cannot be compiled."""
    try:
        compiled()
    except TemplateError as error:
        return str(error.message).rstrip(".")
    except (RecursionError, MemoryError):
        return "it is nested too deeply"
    except (SyntaxError, ValueError, OverflowError) as error:  # of the Python that Jinja makes of it
        return str(error)[:MOST_SHOWN]
    return None
