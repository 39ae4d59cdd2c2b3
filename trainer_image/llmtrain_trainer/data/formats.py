"""What a row becomes for the model: text, and which parts of it are answers to learn. Called by `encoding`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from llmtrain_trainer.config.dataset import Dataset
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.sources import Row

PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{{ message['role'] | capitalize + ':\\n' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "{{ '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:\\n' }}{% endif %}"
)
"""For a tokenizer without a chat template where the manifest gives none: a line with the role, then what was said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A document as the tokenizer gets it."""

    text: str
    answers: tuple[tuple[int, int], ...] | None = None
    """Half-open character ranges that are learned; None: everything."""

    bos: bool = False
    """Start with the tokenizer's begin token, where it has the habit."""

    eos: bool = True
    """End with the end token, as a target."""


Render = Callable[[Row], Rendered]


def renderer(field: str, dataset: Dataset, tokenizer: Any) -> Render:
    """The function that renders this dataset's rows. `tokenizer` is a PreTrainedTokenizerFast; it is asked for its chat template."""
    by_format: dict[str, Render] = {
        "text": partial(_text, field, dataset),
        "promptCompletion": partial(_prompt_completion, field, dataset, tokenizer),
        "messages": partial(_messages, field, dataset, tokenizer),
    }
    return by_format[dataset.format]


def plain_texts(field: str, dataset: Dataset, row: Row) -> list[str]:
    """All text in a row without any template: what a tokenizer is trained on."""
    if dataset.format == "text":
        return [_string(field, dataset, row, "text")]
    if dataset.format == "messages":
        return [turn["content"] for turn in _turns(field, dataset, row, "messages")]
    parts = [_value(field, dataset, row, key) for key in ("prompt", "completion")]
    if isinstance(parts[0], str):
        return [_string(field, dataset, row, key) for key in ("prompt", "completion")]
    return [turn["content"] for key in ("prompt", "completion") for turn in _turns(field, dataset, row, key)]


def _text(field: str, dataset: Dataset, row: Row) -> Rendered:
    return Rendered(text=_string(field, dataset, row, "text"))


def _prompt_completion(field: str, dataset: Dataset, tokenizer: Any, row: Row) -> Rendered:
    if not isinstance(_value(field, dataset, row, "prompt"), str):
        prompt, completion = _turns(field, dataset, row, "prompt"), _turns(field, dataset, row, "completion")
        return _conversation(field, tokenizer, row, prompt + completion, learn_from=len(prompt))
    prompt_text, completion_text = (_string(field, dataset, row, key) for key in ("prompt", "completion"))
    text = prompt_text + completion_text
    return Rendered(text=text, answers=((len(prompt_text), len(text)),), bos=True)


def _messages(field: str, dataset: Dataset, tokenizer: Any, row: Row) -> Rendered:
    return _conversation(field, tokenizer, row, _turns(field, dataset, row, "messages"), learn_from=0)


def _conversation(field: str, tokenizer: Any, row: Row, turns: list[dict[str, Any]], learn_from: int) -> Rendered:
    """Each assistant turn is learned with its end token. The ranges come from rendering the turns before it, so any template will do."""
    learned = [i for i, turn in enumerate(turns) if turn["role"] == "assistant" and i >= learn_from]
    if not learned:
        raise BadData(
            f"{field}.source", row.place, "the conversation has no turn with role assistant", "Leave it out, or name the role assistant"
        )
    say = partial(_render, field, tokenizer, row)
    text = say(turns)
    ranges = tuple(_answer(field, row, say, text, turns, i) for i in learned)
    start, end = ranges[-1]
    ends_in_token = text[start:end].removesuffix(turns[learned[-1]]["content"].strip()) == text[start:end] and end > start
    return Rendered(text=text[:end], answers=ranges, eos=not ends_in_token)  # what follows the last answer teaches nothing


def _render(field: str, tokenizer: Any, row: Row, turns: Sequence[dict[str, Any]], ask: bool = False) -> str:
    try:
        return str(tokenizer.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=ask))
    except Exception as error:  # a template raises what it likes
        raise BadData(
            f"{field}.source",
            row.place,
            f"the chat template refuses the conversation ({error})",
            "Correct the row or tokenizer.chatTemplate",
        ) from error


def _answer(field: str, row: Row, say: Callable[..., str], text: str, turns: Sequence[dict[str, Any]], turn: int) -> tuple[int, int]:
    """Characters of turn `turn` in `text`: from after its generation prompt to the end of its end token.

    Some templates write a turn in another way when later ones follow (they drop its reasoning); then its content and what follows
    it are looked for instead.
    """
    before = say(turns[:turn], ask=True)
    start = len(before) if text.startswith(before) else len(_common_start(before, text))
    alone = say(turns[: turn + 1])
    content = turns[turn]["content"].strip()
    tail = alone.rpartition(content)[2].rstrip()
    if text.startswith(alone):
        return start, len(alone.rstrip())
    found = text.find(content + tail, start)
    if not content or found < 0:
        rule = f"the chat template changes turn {turn + 1} so that it cannot be found in the whole"
        raise BadData(f"{field}.source", row.place, rule, "Give a tokenizer.chatTemplate that appends turns without changing earlier ones")
    return start, found + len(content) + len(tail)


def _common_start(one: str, other: str) -> str:
    length = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:length]


def _turns(field: str, dataset: Dataset, row: Row, key: str) -> list[dict[str, Any]]:
    value = _value(field, dataset, row, key)
    column = getattr(dataset.columns, key)
    if not isinstance(value, list) or not value:
        raise _wrong(field, row, column, value, "a list of {role, content}", key)
    for number, turn in enumerate(value, start=1):
        if not isinstance(turn, dict) or not isinstance(turn.get("role"), str) or not isinstance(turn.get("content") or "", str):
            raise _wrong(field, row, f"{column}[{number}]", turn, "an object with role and content, both text", key)
    return [{**turn, "content": turn.get("content") or ""} for turn in value]


def _string(field: str, dataset: Dataset, row: Row, key: str) -> str:
    value = _value(field, dataset, row, key)
    if not isinstance(value, str):
        raise _wrong(field, row, getattr(dataset.columns, key), value, "text", key)
    return value


def _value(field: str, dataset: Dataset, row: Row, key: str) -> Any:
    column = getattr(dataset.columns, key)
    if column not in row.values:
        there = ", ".join(sorted(map(str, row.values))) or "none"
        rule = f"there is no such column in {row.place} (found {there})"
        raise BadData(f"{field}.columns.{key}", column, rule, f"Set {field}.columns.{key} to the column that holds it")
    return row.values[column]


def _wrong(field: str, row: Row, column: str, value: Any, expected: str, key: str) -> BadData:
    found = "empty" if value is None or value == [] else f"a {type(value).__name__}"
    rule = f"column {column} is {found}, not {expected}"
    return BadData(f"{field}.source", row.place, rule, f"Correct the row, or set {field}.columns.{key} to another column")
