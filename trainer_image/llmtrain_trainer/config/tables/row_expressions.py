"""The language of a dataset's `where` and `template`: Jinja without access to Python, in which null and missing columns are the same.

Preparation runs what is written in it; the plan compiles it alone, so that a mistake in it is found before anything starts.
"""

from __future__ import annotations

import json
from typing import Any

from jinja2 import Environment, StrictUndefined, Template, Undefined, pass_context
from jinja2.environment import TemplateExpression
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

WHERE_WAY_OUT = "Write a Jinja expression over columns, such as rating | int > 3 and text is not null"
TEMPLATE_WAY_OUT = "Write names of columns in double braces, such as {{ instruction }}"


def environment() -> ImmutableSandboxedEnvironment:
    """Without what differs from one run to the next. What is constant is computed as it is compiled, however long that takes."""
    made = ImmutableSandboxedEnvironment(undefined=StrictUndefined, finalize=_as_text, keep_trailing_newline=True)
    made.tests |= {"null": is_absent, "none": is_absent, "undefined": is_absent, "defined": lambda value: not is_absent(value)}
    made.filters |= {"default": _or_default, "d": _or_default, "tojson": _as_json}
    del made.filters["random"], made.globals["lipsum"]
    return made


def lazy(made: Environment) -> None:
    """Let an environment compute nothing as it compiles: what is constant, such as 9**(9**9), may take for ever."""
    made.optimized, made.finalize = False, _in_context


def expression_of(made: ImmutableSandboxedEnvironment, where: str) -> TemplateExpression:
    """`where` compiled. Raises TemplateError, and what Python raises as it compiles."""
    return made.compile_expression(where, undefined_to_none=False)


def template_of(made: ImmutableSandboxedEnvironment, text: str) -> Template:
    """A template compiled. Raises as `expression_of`."""
    return made.from_string(text)


def bracketed(expression: str) -> str:
    """An expression as a template, which can be asked for its names."""
    return "{{ (" + expression + ") }}"


def is_absent(value: Any) -> bool:
    """Null and missing are the same, so that the order of rows makes no difference."""
    return value is None or isinstance(value, Undefined)


def true_or_false(value: Any) -> bool:
    """What `where` gives. Raises TypeError for text, of which False and 0 would be true."""
    if isinstance(value, str):
        raise TypeError("it gives text, not true or false: compare it, such as good == 'True'")
    return bool(_as_text(value))


@pass_context
def _in_context(_: Context, value: Any) -> Any:
    """Jinja writes a constant as it compiles where this can be called without a context."""
    return _as_text(value)


def _or_default(value: Any, default_value: Any = "", boolean: bool = False) -> Any:
    return default_value if is_absent(value) or (boolean and not value) else value


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
