"""What a row becomes for the model: text, and which parts of it are answers to learn.

Each key of a row is read, known to say nothing that could be learned, counted in `Rendered.found`, or refused.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from llmtrain_trainer.config.dataset import Dataset
from llmtrain_trainer.config.tables.chat_templates import ALPACA_TEMPLATE
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.formats.answers import MARKS, ChangedTurnError, Located, locate
from llmtrain_trainer.data.formats.cells import label_of, text_in
from llmtrain_trainer.data.formats.chat_template import BrokenTemplateError, Chat, ChatTemplate, TemplateError
from llmtrain_trainer.data.formats.columns import check_columns
from llmtrain_trainer.data.formats.control_tokens import ControlTokens
from llmtrain_trainer.data.formats.conversations import CONVERSATIONS, turns_in, turns_of, with_default
from llmtrain_trainer.data.formats.missing import known_form
from llmtrain_trainer.data.formats.turns import (
    Message,
    Turn,
    from_json,
    read_list,
    read_settings,
    read_tools,
    spoken,
)
from llmtrain_trainer.data.sources.readers import Row
from llmtrain_trainer.data.sources.wanted import PLAIN, wanted_columns

PLAIN_TEMPLATE = (
    "{% if tools %}{{ 'Tools:\\n' + (tools | tojson) + '\\n' }}{% endif %}"
    "{% for message in messages %}"
    "{{ message['role'] | capitalize + ':\\n' + message['content'] }}"
    "{% for call in message['tool_calls'] or [] %}"
    "{{ '\\n' if message['content'] or not loop.first }}{{ 'Call ' + call['function']['name'] + ' ' }}"
    "{{ call['function']['arguments'] if call['function']['arguments'] is string else call['function']['arguments'] | tojson }}"
    "{% endfor %}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "{{ '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:\\n' }}{% endif %}"
)
"""For a tokenizer without a chat template where the manifest gives none: a line with the role, then what was said."""

ALPACA = "alpaca template"

BUILT_IN = {"built-in template": PLAIN_TEMPLATE, ALPACA: ALPACA_TEMPLATE}
"""Kind of prepare/told.py -> the template."""

_PRIVATE = re.compile(f"[{chr(MARKS)}-{chr(0x10FFFF)}]")
_OWN_WORDS = ("assistant", "system", "developer")
"""Roles whose text may hold marks of reasoning and tool calls as tokens."""

_OTHERS = {"user", "system", "developer", "tool"}
"""Roles that no answer has: a conversation of these alone has none, and does not call it otherwise."""

_ASKING = {"human": "user"}

_ANSWERS = {"assistant", "gpt", "model", "bot", "chatbot", "ai", "chatgpt", "bard", "claude"}
"""What others call the role whose turns are learned, in lower case."""

_SAYS_NOTHING = {"role", "content", "tool_calls", "tool_call_id", "id", "index", "timestamp", "created_at", "model", "finish_reason"}
_SAYS_NOTHING |= {"reasoning_content", "thinking", "reasoning"}  # counted where the answer is located


def _meant(roles: Sequence[str]) -> str:
    """What `roles` of a dataset may be where nobody is called assistant, as YAML."""
    words = {role: _ASKING.get(role.strip().casefold(), role.strip().casefold()) for role in roles}
    alike = {role: word for role, word in words.items() if word != role and word in _OTHERS}
    unknown = [role for role, word in words.items() if word not in _OTHERS]
    answer = next((role for role in unknown if words[role] in _ANSWERS), None)
    named = {**alike, **({answer: "assistant"} if answer is not None else dict.fromkeys(unknown[:1], "assistant"))}
    said = "{" + ", ".join(f"{json.dumps(role, ensure_ascii=False)}: {word}" for role, word in named.items()) + "}"
    return said if answer is not None or not unknown else f"{said} if that speaker answers"


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

    label: int | None = None
    """The place of its label among those that are learned."""

    guarded: bool = False
    """Letters of control tokens stand in it that are to stay letters: it is for the copy of the tokenizer in control_tokens."""

    found: Counter[str] = field(default_factory=Counter)
    """What a person should know, as kinds of prepare/told.py."""


class Renderer:
    """Renders the rows of one dataset. `tokenizer` is a PreTrainedTokenizerFast; it is asked for its chat template.

    `labels`: names of those that are learned, in the order of the head's outputs.
    """

    def __init__(self, field: str, dataset: Dataset, tokenizer: Any, control: ControlTokens, labels: Sequence[str]) -> None:
        self._field, self._dataset, self._control, self._labels = field, dataset, control, labels
        self._template = ChatTemplate(tokenizer)
        self._built_in = next((name for name, own in BUILT_IN.items() if str(tokenizer.chat_template).endswith(own)), None)
        by_format: dict[str, Callable[[Row], Rendered]] = {
            "text": self._text,
            "lines": self._text,
            "promptCompletion": self._prompt_completion,
            "messages": self._turns,
            "sharegpt": self._turns,
            "alpaca": self._turns,
            "squad": self._turns,
            "textLabel": self._text_label,
        }
        self._render = by_format[dataset.format]

    def __call__(self, row: Row) -> Rendered:
        """Raises BadData with the row, what was found in it, and the way out; BrokenTemplateError where no row is at fault."""
        if not set(wanted_columns(self._dataset)) <= row.values.keys() and (refusal := known_form(self._field, self._dataset, row)):
            raise refusal
        found = check_columns(self._field, self._dataset, row)
        rendered = self._render(row)
        rendered.found.update(found)
        return rendered

    def _text(self, row: Row) -> Rendered:
        return self._plain(text_in(self._field, self._dataset, row, "text"), None)

    def _text_label(self, row: Row) -> Rendered:
        label = label_of(self._field, self._dataset, row, self._labels)
        return replace(self._text(row), label=label, eos=False)

    def _prompt_completion(self, row: Row) -> Rendered:
        if _is_conversation(self._dataset, row):
            prompt, completion = (turns_in(self._field, self._dataset, row, key) for key in ("prompt", "completion"))
            prompt = with_default(self._dataset, prompt)
            return self._conversation(row, (*prompt, *completion), learn_from=len(prompt))
        if self._dataset.system is not None:
            way_out = f"Write it into {self._field}.template.prompt, or leave it out"
            raise BadData(f"{self._field}.system", self._dataset.system, f"the prompt of {row.place} is text, which has no turns", way_out)
        prompt_text, completion_text = (text_in(self._field, self._dataset, row, key) for key in ("prompt", "completion"))
        text = prompt_text + completion_text
        found = Counter({"empty answer": int(not completion_text.strip()), "template not used": 1})
        return self._plain(text, ((len(prompt_text), len(text)),) if completion_text.strip() else (), found)

    def _turns(self, row: Row) -> Rendered:
        return self._conversation(row, turns_of(self._field, self._dataset, row, apart=self._built_in == ALPACA), learn_from=0)

    def _plain(self, text: str, answers: tuple[tuple[int, int], ...] | None, found: Counter[str] | None = None) -> Rendered:
        inside = set() if self._dataset.control_tokens else self._control.inside(text)
        counted = Counter({f"control tokens:{name}": 1 for name in inside}) + (found or Counter())
        return Rendered(text=text, answers=answers, bos=True, eos=answers != (), guarded=bool(inside), found=counted)

    # Conversations

    def _conversation(self, row: Row, turns: Sequence[Turn], learn_from: int) -> Rendered:
        """Each answer is learned with its end token. What follows the last one teaches nothing and is left out."""
        spoke = [i for i, turn in enumerate(turns) if turn.message["role"] == "assistant" and i >= learn_from]
        if not spoke:
            found_roles = list(dict.fromkeys(turn.message["role"] for turn in turns[learn_from:]))
            roles = ", ".join(found_roles) or "none"
            if {turn.message["role"] for turn in turns[learn_from:]} <= _OTHERS:
                return Rendered(text="", answers=(), eos=False, found=Counter({"no answer": 1}))
            rule = f"the conversation has no turn with role assistant to learn (found {roles})"
            way_out = f"Leave it out, or set {self._field}.roles to {_meant(found_roles)}"
            raise BadData(f"{self._field}.source", row.place, rule, way_out)
        others = Counter({f"other role:{role}": 1 for role in self._other_roles(row, turns[learn_from:])})
        others += Counter({f"not an answer:{turn.message['role']}": 1 for turn in turns if turn.asked})
        chat = self._chat(row, turns)
        located = self._located(row, chat, {i for i in spoke if turns[i].learned})
        found = located.found + self._unread(chat, located.text) + others
        if self._built_in:
            found[self._built_in] += 1
        found["today"] += self._template.asks_for_today(chat)
        inside = self._control.guards_in(located.text)
        found.update({f"control tokens:{name}": 1 for name in inside})
        if not located.answers:
            return Rendered(text="", answers=(), eos=False, found=found)
        text, answers = located.text[: located.answers[-1][1]], located.answers
        ended = self._control.ends_in(text) is not None
        found["no end token"] += not ended
        if inside:
            text, answers = self._control.released(text, answers)
        return Rendered(text=text, answers=answers, eos=not ended, guarded=bool(inside), found=found)

    def _other_roles(self, row: Row, turns: Sequence[Turn]) -> set[str]:
        """Roles beside those that chat templates know. Raises BadData for one that seems to be an answer's: it would not be learned."""
        others = {turn.message["role"] for turn in turns} - _OTHERS - {"assistant"}
        for role in sorted(others):
            if role.strip().casefold() in _ANSWERS:
                rule = f"some answers of the conversation have role assistant and some role {role}, of which the latter are not learned"
                raise BadData(f"{self._field}.source", row.place, rule, "Name the role of all answers assistant")
        return others

    def _chat(self, row: Row, turns: Sequence[Turn]) -> Chat:
        tools = read_tools(self._field, row, self._dataset.columns.tools, _tools(self._dataset, row))
        documents = read_list(self._field, row, "documents", row.values.get("documents"))
        settings = read_settings(self._field, row, "chat_template_kwargs", row.values.get("chat_template_kwargs"))
        messages: list[Message] = [turn.message for turn in turns]
        if _PRIVATE.search(str((messages, tools, documents))):
            rule = "it holds characters of Unicode's plane 16 (private use), which are reserved here to mark places in conversations"
            raise BadData(f"{self._field}.source", row.place, rule, "Replace them, or leave the row out")
        if not self._dataset.control_tokens:
            messages = [self._control.guarded(message, answer=message["role"] in _OWN_WORDS) for message in messages]
            tools, documents = self._control.guarded(tools), self._control.guarded(documents)
        return Chat(
            messages=tuple(messages),
            tools=tools,
            documents=documents,
            settings=settings,
        )

    def _located(self, row: Row, chat: Chat, learned: set[int]) -> Located:
        try:
            return locate(self._template, chat, learned)
        except TemplateError as error:
            if (why := self._template.broken(error)) is not None:
                raise BrokenTemplateError(why) from error
            rule = f"the chat template refuses the conversation ({error})"
            raise BadData(f"{self._field}.source", row.place, rule, "Correct the row or tokenizer.chatTemplate") from error
        except ChangedTurnError as error:
            way_out = "Give a tokenizer.chatTemplate that appends turns without changing earlier ones"
            raise BadData(f"{self._field}.source", row.place, str(error), way_out) from error

    def _unread(self, chat: Chat, text: str) -> Counter[str]:
        """Tools, documents and keys of messages that change nothing in what the template writes."""
        without: dict[str, Chat] = {}
        if chat.tools:
            without["tools not written"] = Chat(messages=chat.messages, documents=chat.documents, settings=chat.settings)
        if chat.documents:
            without["column not written:documents"] = Chat(messages=chat.messages, tools=chat.tools, settings=chat.settings)
        if chat.settings:
            without["column not written:chat_template_kwargs"] = Chat(messages=chat.messages, tools=chat.tools, documents=chat.documents)
        for key in {key for message in chat.messages for key, value in message.items() if value not in ("", [], {})} - _SAYS_NOTHING:
            without[f"key not written:{key}"] = chat.without_key(key)
        return Counter({kind: 1 for kind, other in without.items() if self._same(other, text)})

    def _same(self, chat: Chat, text: str) -> bool:
        try:
            return self._template.render(chat) == text
        except TemplateError:
            return False


def plain_texts(field: str, dataset: Dataset, row: Row) -> list[str]:
    """All text in a row without any template: what a tokenizer is trained on."""
    if dataset.format in (*PLAIN, "textLabel"):
        return [text_in(field, dataset, row, "text")]
    if dataset.format in CONVERSATIONS:
        return spoken(turns_of(field, dataset, row))
    if _is_conversation(dataset, row):
        return [text for key in ("prompt", "completion") for text in spoken(turns_in(field, dataset, row, key))]
    return [text_in(field, dataset, row, key) for key in ("prompt", "completion")]


def _is_conversation(dataset: Dataset, row: Row) -> bool:
    prompt = from_json(row.values.get(dataset.columns.prompt))
    return isinstance(prompt, list) and all(isinstance(turn, dict) and "role" in turn for turn in prompt)


def _tools(dataset: Dataset, row: Row) -> Any:
    """`functions` is the name that OpenAI's format had before."""
    return row.values.get(dataset.columns.tools) or row.values.get("functions")
