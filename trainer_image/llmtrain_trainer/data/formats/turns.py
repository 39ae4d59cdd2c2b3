"""Messages of a row as chat templates take them: roles, text, tool calls, tools.

What cannot be trained on is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.sources.dataset import Row

Message = dict[str, Any]

SHAREGPT = "is a turn in ShareGPT's form (from, value)"

EMPTY: Mapping[str, str] = {}

_TAKEN = {"messages", "conversation", "tools", "documents", "chat_template", "add_generation_prompt", "continue_final_message"}
_TAKEN |= {"tokenize", "padding", "truncation", "max_length", "return_tensors", "return_dict", "return_assistant_tokens_mask"}
_TAKEN |= {"tokenizer_kwargs", "sanitize_control_tokens", "conversations"}
_TEXT = ("text", "input_text", "output_text")
_NOT_TEXT = ("image", "audio", "video", "file", "document")
_ELSEWHERE = {
    "thinking": "Write its text as reasoning_content of the message",
    "reasoning": "Write its text as reasoning_content of the message",
    "tool_use": "Write it as an item of tool_calls of the message",
    "tool_call": "Write it as an item of tool_calls of the message",
    "tool_result": "Write it as a message with role tool",
}
"""Types of content parts that have a place of their own in a message, and where."""
_ABOUT_THE_TURN = {"role", "content", "name", "id", "tool_call_id", "model", "finish_reason", "created_at", "timestamp"}
_REASONING = {"reasoning_content", "thinking", "reasoning"}


@dataclass(frozen=True, slots=True)
class Turn:
    """One message and whether it is to be learned."""

    message: Message
    """role and content, both text; tool_calls as [{type, function: {name, arguments}}]; other keys as they were, nulls left out."""

    learned: bool
    asked: bool = False
    """A key of LEARNED asks to learn it, and it is no answer."""


def read_turns(field: str, row: Row, column: str, way_out: str, value: Any, roles: Mapping[str, str] = EMPTY) -> tuple[Turn, ...]:
    """The messages of a column. `roles`: own names of roles. Raises BadData with row, turn and what was found."""
    messages = read_items(field, row, column, way_out, value, "{role, content}")
    return tuple(as_turn(RowPlace(field, row, f"{column}[{n}]", way_out), message, roles) for n, message in enumerate(messages, start=1))


def read_items(field: str, row: Row, column: str, way_out: str, value: Any, shape: str) -> list[Any]:
    """A list of turns that are each of a shape, such as {role, content}. It may be JSON text. Raises BadData."""
    value = from_json(value)
    if isinstance(value, list) and value:
        return value
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        rule = f"column {column} is text, but not JSON"
        raise BadData(f"{field}.source", row.place, rule, f"Write the list of {shape} as JSON, such as with json.dumps in Python")
    raise BadData(f"{field}.source", row.place, f"column {column} is {described(value)}, not a list of {shape}", way_out)


def read_tools(field: str, row: Row, column: str, value: Any) -> list[dict[str, Any]]:
    """The tools of a row as JSON schemas, [] where it has none."""
    tools = read_list(field, row, column, value)
    return [tool if "function" in tool or "type" in tool else {"type": "function", "function": tool} for tool in tools]


def read_list(field: str, row: Row, column: str, value: Any) -> list[dict[str, Any]]:
    """A list of objects, [] where there is none."""
    value = from_json(value)
    if value in (None, "", []):
        return []
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        return value
    raise RowPlace(field, row, column, f"Write {column} as a list of objects").wrong(f"is {described(value)}, not a list of objects")


LEARNED = ("weight", "train", "training", "trainable", "loss", "loss_weight", "loss_scale", "learn")
"""Keys of a message that say whether it is learned: OpenAI's, and those of other trainers."""

MASKS = ("mask", "masked", "loss_mask", "ignore", "train_detail", "training_detail")
"""Keys of a message that say it the other way round, either way, or of a part: which is meant cannot be known."""

_MARK = re.compile(r"(^|_)(no)?(loss|masks?|masked|train|trained|trainable|training|learn|learned|ignored?)(_|$)")
"""A word in the key of a message that may say whether it is learned."""


def read_settings(field: str, row: Row, column: str, value: Any) -> dict[str, Any]:
    """Variables for the chat template, {} where there are none. It cannot bring a template or change how it is asked."""
    value = from_json(value)
    if value in (None, "", {}):
        return {}
    place = RowPlace(field, row, column, 'Write an object with variables of the template, such as {"enable_thinking": false}')
    if not isinstance(value, dict):
        raise place.wrong(f"is {described(value)}, not an object")
    if taken := sorted(_TAKEN & value.keys()):
        raise place.wrong(f"names {', '.join(taken)}, which is no variable of a template")
    return value


def from_json(value: Any) -> Any:
    """`value`, or what it says where it is a list or an object as JSON text: columns of csv and parquet often hold those."""
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def described(value: Any) -> str:
    """What a value is, for a message."""
    if value is None or value == []:
        return "empty"
    return next((name for kind, name in _NAMES.items() if isinstance(value, kind)), f"a {type(value).__name__}")


_NAMES = {bool: "true or false", int: "a number", float: "a number", str: "text", bytes: "binary data", dict: "an object", list: "a list"}
"""Kinds of values as JSON calls them; bool is an int too, so it comes first."""


@dataclass(frozen=True, slots=True)
class RowPlace:
    """Where in a row something stands."""

    field: str
    row: Row
    name: str
    way_out: str

    def wrong(self, rule: str, way_out: str | None = None) -> BadData:
        return BadData(f"{self.field}.source", self.row.place, f"{self.name} {rule}", way_out or self.way_out)


def as_turn(place: RowPlace, message: Any, roles: Mapping[str, str] = EMPTY) -> Turn:
    """One message. Raises BadData with its place and what was found."""
    if is_sharegpt(message):
        column = place.name.partition("[")[0]
        renamed = "" if column == "conversations" else f" and {place.field}.columns.conversations to {column}"
        raise place.wrong(SHAREGPT, f"Set {place.field}.format to sharegpt{renamed}")
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise place.wrong(f"is {described(message)}, not an object with role and content")
    kept = {key: value for key, value in message.items() if value is not None and key not in ("content", *LEARNED)}
    _check_content(place, message)
    calls = _tool_calls(place, kept.pop("tool_calls", None), kept.pop("function_call", None))
    role = roles.get(kept["role"], "tool" if kept["role"] == "function" else kept["role"])
    kept = {**kept, "role": role, "content": _text(place, message.get("content")), **({"tool_calls": calls} if calls else {})}
    learned = _learned(place, message)
    asked = learned and role != "assistant" and any(message.get(key) for key in LEARNED if key != "weight")
    return Turn(kept, learned and role == "assistant", asked=asked)


def _check_content(place: RowPlace, message: Mapping[str, Any]) -> None:
    """A turn without content that says something under another key is no empty turn."""
    if message.get("content") is not None or any(message.get(key) for key in ("tool_calls", "function_call", *_REASONING)):
        return
    others = {key: value for key, value in message.items() if key not in _ABOUT_THE_TURN and value}
    if media := [key for key in others if any(word in key for word in _NOT_TEXT)]:
        raise place.wrong(f"has {media[0]} and no content: only text is trained on here", "Leave the row out, or write its text as content")
    texts = [key for key, value in others.items() if isinstance(value, str) and value.strip()]
    if texts:
        raise place.wrong(f"has no content (found {', '.join(message)})", f"Write what the turn says as content (perhaps it is {texts[0]})")


def _learned(place: RowPlace, message: Mapping[str, Any]) -> bool:
    """Whether an answer is learned, as whichever key of LEARNED says; without one it is."""
    if unclear := [key for key in message if _is_unclear(key, message[key])]:
        rule = f"has {unclear[0]} {message[unclear[0]]!r}, which some trainers read as learned and others as left out"
        raise place.wrong(rule, f"Write weight 1 or 0 in place of {unclear[0]}: 1 is learned, 0 is not")
    said = {key: message[key] for key in LEARNED if message.get(key) is not None}
    for key, value in said.items():
        if value not in (0, 1):  # False and True as well
            raise place.wrong(f"has {key} {value!r}: a turn is learned (1 or true) or not (0 or false)", f"Write {key} 0 or 1")
    if len({bool(value) for value in said.values()}) > 1:
        raise place.wrong(f"has {' and '.join(said)}, which say different things", "Keep one of them")
    return all(said.values())


def _is_unclear(key: str, value: Any) -> bool:
    """Whether a key seems to say that a turn is learned or not, and is none of LEARNED. Names, such as a train_id, say no such thing."""
    if key in MASKS:
        return value is not None
    return key not in LEARNED and _MARK.search(key.casefold()) is not None and (value in (0, 1) or isinstance(value, list))


def _text(place: RowPlace, content: Any) -> str:
    """Text parts are joined as templates that read parts join them: without anything between."""
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, list):
        return "".join(_part(place, number, part) for number, part in enumerate(content, start=1))
    raise place.wrong(f"has content that is {described(content)}, not text or a list of text parts")


def _part(place: RowPlace, number: int, part: Any) -> str:
    if isinstance(part, dict):
        kind, text = part.get("type", "text"), part.get("text")
        if kind in _TEXT and isinstance(text, str):
            return text
        if any(word in str(kind) for word in _NOT_TEXT):
            rule = f"has content part {number} of type {kind}: only text is trained on here"
            raise place.wrong(rule, "Leave the row out, or keep its text parts only")
    found = f"of type {part['type']}" if isinstance(part, dict) and "type" in part else described(part)
    way_out = _ELSEWHERE.get(str(part.get("type")), "Write it as a text part") if isinstance(part, dict) else "Write it as a text part"
    raise place.wrong(f'has content part {number} that is {found}, not {{"type": "text", "text": ...}}', way_out)


def _tool_calls(place: RowPlace, calls: Any, call: Any) -> list[dict[str, Any]]:
    """tool_calls, or the older function_call, in one form."""
    calls = from_json(calls) or ([call] if call else [])
    if not isinstance(calls, list):
        raise place.wrong(f"has tool_calls that is {described(calls)}, not a list", "Write tool_calls as OpenAI's function calling does")
    return [_tool_call(place, item) for item in calls]


def _tool_call(place: RowPlace, call: Any) -> dict[str, Any]:
    wrapped = call if isinstance(call, dict) and isinstance(call.get("function"), dict) else {"type": "function", "function": call}
    function = wrapped["function"]
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise place.wrong(
            f"has a tool call that is {described(call)} without a name", 'Write {"function": {"name": ..., "arguments": {...}}}'
        )
    return {**wrapped, "function": {**function, "arguments": _arguments(place, function.get("arguments"))}}


def _arguments(place: RowPlace, value: Any) -> dict[str, Any]:
    """As an object: templates write objects as JSON, and would write text as a string in quotes, which no caller of tools can read."""
    read = from_json({} if value in (None, "") else value)
    if not isinstance(read, dict):
        raise place.wrong(
            "has a tool call whose arguments are not a JSON object", 'Correct them, such as {"city": "Oslo"}, or leave the row out'
        )
    return read


def is_sharegpt(message: Any) -> bool:
    """Whether a turn is written as {from, value}."""
    return isinstance(message, dict) and "role" not in message and {"from", "value"} <= message.keys()


def spoken(turns: Sequence[Turn]) -> list[str]:
    """All text that turns hold, tool calls as JSON."""
    texts = [turn.message["content"] for turn in turns]
    return texts + [json.dumps(turn.message["tool_calls"]) for turn in turns if "tool_calls" in turn.message]
