"""The chat template of a tokenizer, asked for text. Finds out which forms of content and tool calls it takes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from typing import Any

import jinja2

from llmtrain_trainer.data.blame import first_line
from llmtrain_trainer.data.formats.turns import Message
from llmtrain_trainer.data.template_bounds import TooLongError, bounded

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
_PROBE = "qprobe"
_TODAY = re.compile(r"""strftime_now\(\s*(['"])(.*?)\1\s*\)""")

A_DAY = date(2024, 7, 26)
"""What templates take for today: rows made on another day, by another node or after a restart, are the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """What a template is given."""

    messages: tuple[Message, ...]
    tools: Sequence[dict[str, Any]] = ()
    documents: Sequence[dict[str, Any]] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    """Variables of the template, such as enable_thinking."""

    def first(self, count: int) -> Chat:
        return replace(self, messages=self.messages[:count])

    def without_key(self, key: str) -> Chat:
        """The same messages without one key."""
        return replace(self, messages=tuple({k: v for k, v in message.items() if k != key} for message in self.messages))


class TemplateError(ValueError):
    """The template refuses the conversation."""


class BrokenTemplateError(ValueError):
    """The template writes no conversation at all: its syntax is wrong, or it names what is not there."""


class ChatTemplate:
    """`tokenizer` is a PreTrainedTokenizerFast with a chat template."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._sources: dict[bool, str] = {}

    def render(self, chat: Chat, ask: bool = False) -> str:
        """The text of a conversation; `ask`: with the beginning of the next answer. Raises TemplateError."""
        return self._render(chat, [self._taken(message) for message in chat.messages], ask)

    def marked(self, chat: Chat) -> tuple[str, list[tuple[int, int]]]:
        """The text and the character ranges that the template's {% generation %} marks hold. Raises TemplateError."""
        from transformers.utils.chat_template_utils import render_jinja_template

        try:
            messages = [self._taken(message) for message in chat.messages]
            with bounded():
                texts, spans = render_jinja_template(
                    conversations=[messages],
                    chat_template=self._source(chat),
                    return_assistant_tokens_mask=True,
                    **self._variables(chat),
                    **self._tokenizer.special_tokens_map,
                    **chat.settings,
                )
        except Exception as error:  # a template raises what it likes
            raise TemplateError(_said(error)) from error
        return texts[0], list(spans[0])

    def has_marks(self, chat: Chat) -> bool:
        """Whether it marks answers by itself."""
        return bool(_GENERATION.search(self._source(chat)))

    def names(self, chat: Chat, variable: str) -> bool:
        """Whether a word stands in it."""
        return re.search(rf"\b{variable}\b", self._source(chat)) is not None

    def asks_for_today(self, chat: Chat) -> bool:
        """Whether it would write the day's date."""
        return "strftime_now" in str(self._tokenizer.get_chat_template(None, list(chat.tools) or None))

    def _source(self, chat: Chat) -> str:
        """The template's text; some tokenizers have another one for conversations with tools."""
        if bool(chat.tools) not in self._sources:
            source = str(self._tokenizer.get_chat_template(None, list(chat.tools) or None))
            self._sources[bool(chat.tools)] = _TODAY.sub(lambda call: json.dumps(A_DAY.strftime(call[2])), source)
        return self._sources[bool(chat.tools)]

    def _variables(self, chat: Chat) -> dict[str, Any]:
        return {"tools": list(chat.tools) or None, "documents": list(chat.documents) or None}

    def _render(self, chat: Chat, messages: list[Message], ask: bool) -> str:
        try:
            with bounded():
                return str(
                    self._tokenizer.apply_chat_template(
                        messages,
                        chat_template=self._source(chat),
                        tokenize=False,
                        add_generation_prompt=ask,
                        **self._variables(chat),
                        **chat.settings,
                    )
                )
        except Exception as error:  # a template raises what it likes
            raise TemplateError(_said(error)) from error

    def broken(self, error: TemplateError) -> str | None:
        """Why it cannot write any question and answer, None where `error` is about one conversation."""
        return self._fault if _is_fault(error) else None

    @cached_property
    def _fault(self) -> str | None:
        shown = [{"role": "user", "content": _PROBE}, {"role": "assistant", "content": _PROBE}]
        try:
            for count, ask in ((2, False), (1, True)):
                self._render(Chat(messages=()), [self._taken(message) for message in shown[:count]], ask)
        except TemplateError as error:
            return str(error) if _is_fault(error) else None
        return None

    # Which forms it takes

    def _taken(self, message: Message) -> Message:
        """A message in the form that this template writes."""
        if self._parts:
            message = {**message, "content": [{"type": "text", "text": message["content"]}]}
        if "tool_calls" in message and self._arguments_as_text:
            message = {**message, "tool_calls": [_with_text(call) for call in message["tool_calls"]]}
        return message

    @cached_property
    def _parts(self) -> bool:
        """Some templates write lists of parts only and pass over plain text without a word."""
        if self._shows({"role": "user", "content": _PROBE}, _PROBE):
            return False
        parts: Message = {"role": "user", "content": [{"type": "text", "text": _PROBE}]}
        written_as_data = any(self._shows(parts, name) for name in ("'type'", '"type"'))
        return self._shows(parts, _PROBE) and not written_as_data

    @cached_property
    def _arguments_as_text(self) -> bool:
        """Most templates write arguments as JSON, some join text to text and fail on an object or write it as Python does."""
        return not self._shows_call({_PROBE: _PROBE}) and self._shows_call(f'{{"{_PROBE}": "{_PROBE}"}}')

    def _shows_call(self, arguments: Any) -> bool:
        call = {"id": "call00000", "type": "function", "function": {"name": "name", "arguments": arguments}}
        content: Any = [{"type": "text", "text": ""}] if self._parts else ""
        return self._shows({"role": "assistant", "content": content, "tool_calls": [call]}, f'"{_PROBE}"')

    def _shows(self, message: Message, expected: str) -> bool:
        asked: Any = [{"type": "text", "text": "?"}] if isinstance(message["content"], list) else "?"
        before = [{"role": "user", "content": asked}] if message["role"] == "assistant" else []
        try:
            return expected in self._render(Chat(messages=()), [*before, message], ask=False)
        except TemplateError:
            return False


def _is_fault(error: TemplateError) -> bool:
    """Whether the template may be wrong: it did not raise by itself (raise_exception), and stayed within its bounds."""
    return type(error.__cause__) is not jinja2.TemplateError and not isinstance(
        error.__cause__, (TooLongError, MemoryError, RecursionError)
    )


def _said(error: Exception) -> str:
    line = getattr(error, "lineno", None)
    return f"{first_line(error)} in its line {line}" if isinstance(line, int) else first_line(error)


def _with_text(call: dict[str, Any]) -> dict[str, Any]:
    arguments = call["function"]["arguments"]
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {**call, "function": {**call["function"], "arguments": text}}
