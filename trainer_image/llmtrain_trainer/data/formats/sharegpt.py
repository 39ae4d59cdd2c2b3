"""Turns of ShareGPT's form, {from, value}, as messages. Pure; called by conversations.

The names of speakers are those that LLaMA-Factory and Axolotl read: human asks, gpt answers, function_call is an answer that calls tools,
observation what they gave.
"""

from __future__ import annotations

from typing import Any

from llmtrain_trainer.config.dataset import Dataset
from llmtrain_trainer.data.formats.turns import Message, RowPlace, Turn, as_turn, described, from_json, read_items
from llmtrain_trainer.data.sources.dataset import Row

CALL = "function_call"

ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
    CALL: "assistant",
}
"""Speaker -> role."""


def read_sharegpt(field: str, dataset: Dataset, row: Row, value: Any) -> tuple[Turn, ...]:
    """The turns of a row whose column `conversations` is `value`. Raises BadData."""
    column = dataset.columns.conversations
    way_out = f"Correct the row, or set {field}.columns.conversations to another column"
    items = read_items(field, row, column, way_out, value, "{from, value}")
    places = [RowPlace(field, row, f"{column}[{number}]", way_out) for number in range(1, len(items) + 1)]
    return tuple(as_turn(place, _message(place, dataset, item)) for place, item in zip(places, items, strict=True))


def _message(place: RowPlace, dataset: Dataset, item: Any) -> Message:
    if isinstance(item, dict) and {"role", "content"} <= item.keys():
        column = dataset.columns.conversations
        rule = "has role and content, not from and value"
        raise place.wrong(rule, f"Set {place.field}.format to messages and {place.field}.columns.messages to {column}")
    if not isinstance(item, dict) or not isinstance(item.get("from"), str) or "value" not in item:
        raise place.wrong(f"is {described(item)}, not an object with from and value")
    speaker, others = item["from"], {key: value for key, value in item.items() if key not in ("from", "value")}
    role = {**ROLES, **dataset.roles}.get(speaker)
    if role is None:
        rule = f"has from {speaker!r}, a speaker without a role (known are {', '.join(ROLES)})"
        raise place.wrong(rule, f"Set {place.field}.roles to {{{speaker}: user}} or whichever role it has")
    if speaker == CALL and speaker not in dataset.roles:
        return {**others, "role": role, "content": "", "tool_calls": _calls(place, item["value"])}
    return {**others, "role": role, "content": item["value"]}


def _calls(place: RowPlace, value: Any) -> list[Any]:
    read = from_json(value)
    calls = read if isinstance(read, list) else [read]
    if calls and all(isinstance(call, dict) for call in calls):
        return calls
    way_out = 'Write its value as JSON, such as {"name": "weather", "arguments": {"city": "Oslo"}}'
    raise place.wrong(f"has from {CALL} and a value that is no JSON object", way_out)
