"""Prompts that Axolotl writes itself, as Jinja templates of a row's columns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from string import Formatter
from typing import Any

from llmtrain_operator.recipes.counterpart import Counterpart, Told, is_on
from llmtrain_operator.recipes.values import text
from llmtrain_trainer.config.tables.chat_templates import ALPACA_WITH_INPUT, ALPACA_WITHOUT_INPUT

ALPACA: Mapping[str, str] = {
    "format": "promptCompletion",
    "template.prompt": "{% if input is defined and input %}"
    + ALPACA_WITH_INPUT
    + "\n\n### Instruction:\n{{ instruction }}\n\n### Input:\n{{ input }}\n\n{% else %}"
    + ALPACA_WITHOUT_INPUT
    + "\n\n### Instruction:\n{{ instruction }}\n\n{% endif %}### Response:\n",
    "template.completion": "{{ output }}",
}
"""Alpaca's own prompt, whatever the chat template is."""

_PARTS = ("instruction", "input", "output", "system")
_OPENING = re.compile(r"[{][{%#]")


def own_prompt(written: Mapping[str, Any]) -> Told:
    """A prompt of the recipe's own: its form with input and without, behind words of the system."""
    columns = {part: _column(written.get(f"field_{part}") or part) for part in _PARTS}
    asked = _turn(written, columns)
    fields = {
        "format": "promptCompletion",
        "template.prompt": _system(written, columns) + asked,
        "template.completion": _value(columns["output"]),
    }
    return Told(outcome=Counterpart.MAPS, fields=fields, note="prompt and completion are written by a template")


def _turn(written: Mapping[str, Any], columns: Mapping[str, str]) -> str:
    """The form for rows with input and that for rows without; one of them where they are the same or no row has input."""
    with_input = _jinja(text(written.get("format") or "{instruction} {input} "), columns)
    without = _jinja(text(written.get("no_input_format") or "{instruction} "), columns)
    if with_input == without:
        return with_input
    return f"{{% if {_has(columns['input'])} %}}{with_input}{{% else %}}{without}{{% endif %}}"


def _system(written: Mapping[str, Any], columns: Mapping[str, str]) -> str:
    """What the system says: a row's own words where it has such a column, else the recipe's."""
    form, column = text(written.get("system_format") or "{system}"), columns["system"]
    from_row = f"{{% if {_has(column)} %}}{_jinja(form, columns)}{{% endif %}}" if is_on(written.get("field_system")) else ""
    said = written.get("system_prompt")
    if not is_on(said):
        return from_row
    usual = _literal(form.replace("{system}", text(said)))
    return f"{{% if {_has(column)} %}}{_jinja(form, columns)}{{% else %}}{usual}{{% endif %}}" if from_row else usual


def _jinja(form: str, columns: Mapping[str, str]) -> str:
    """Python's braces, {instruction}, as Jinja's. Raises ValueError for a part that a prompt does not have."""
    made = ""
    for before, part, _, _ in Formatter().parse(form):
        made += _literal(before)
        if part is not None and part not in columns:
            raise ValueError(f"{{{part}}} is no part of a prompt: {', '.join(columns)} are")
        made += _value(columns[part]) if part is not None else ""
    return made


def _literal(words: str) -> str:
    """Text that Jinja leaves as it is."""
    if _OPENING.search(words) or words.endswith("{"):
        return "{{ " + repr(words) + " }}"
    return words


def _value(column: str) -> str:
    return "{{ " + column + " }}"


def _has(column: str) -> str:
    return f"{column} is defined and {column}"


def _column(name: Any) -> str:
    if not re.fullmatch(r"[A-Za-z_]\w*", text(name)):
        raise ValueError(f"a template cannot name the column {name!r}: rename it in the data")
    return text(name)
