"""Where in a rendered conversation each answer stands, and what of the conversation the template did not write.

A template is a program: it may rewrite a turn when others follow (drop its reasoning), merge turns, or leave some out. So each message gets
a private character after its last letter, and one after the name of its last tool call; where they come out tells where a message ends.
What a template writes between two messages is what it writes there when the conversation stops after the second one.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Set
from contextlib import suppress
from dataclasses import dataclass, field, replace

from llmtrain_trainer.data.formats.asking import asks_by_settings, asks_otherwise
from llmtrain_trainer.data.formats.chat_template import Chat, ChatTemplate, TemplateError
from llmtrain_trainer.data.formats.turns import Message

MARKS = 0x100000
"""The first of the private characters (Unicode plane 16) that mark the ends of messages; two a message."""

MOST_MESSAGES = 0x3FF0
"""Longer conversations are read without marks."""

_FEW, _FIRST = 12, 3
"""Messages that are rendered to find one in a long conversation, and how many of them are the conversation's first."""

_BEGIN = chr(MARKS + 2 * MOST_MESSAGES)
"""Marks the beginning of the first message."""

_MARK = re.compile(f"[{chr(MARKS)}-{_BEGIN}]")
_REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")
_REASONING = re.compile(r"<(think|thinking|thought|reasoning)>|</(think|thinking|thought|reasoning)>|\[/?THINK\]")
_TOKEN = re.compile(r"\s*<[^<>\s]+>")
_BLOCK = re.compile(r"<(think|thinking|thought|reasoning)>.*?</\1>|\[THINK\].*?\[/THINK\]", re.DOTALL)
_UP_TO_END = re.compile(r".*(</(think|thinking|thought|reasoning)>|\[/THINK\])", re.DOTALL)


class ChangedTurnError(ValueError):
    """The template writes a turn in another way when later ones follow, so that it cannot be found. `turn` counts from 1."""

    def __init__(self, turn: int) -> None:
        super().__init__(f"the chat template changes turn {turn} so that it cannot be found in the rendered conversation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A rendered conversation."""

    text: str
    answers: tuple[tuple[int, int], ...]
    """Half-open character ranges to learn, each with the end of its turn."""

    found: Counter[str] = field(default_factory=Counter)
    """What a person should know: kinds of prepare/told.py, with how many turns."""


def locate(template: ChatTemplate, chat: Chat, learned: Set[int]) -> Located:
    """The text of a conversation and where its learned messages (indices in `learned`) stand.

    Raises TemplateError and ChangedTurnError.
    """
    return _Search(template, chat, learned).located()


class _Search:
    def __init__(self, template: ChatTemplate, chat: Chat, learned: Set[int]) -> None:
        self._template, self._learned = template, learned
        self._plain = template.render(chat)
        self._chat, self._text = chat, self._plain
        if len(chat.messages) <= MOST_MESSAGES:
            self._mark_messages(chat)
        self._messages = chat.messages
        self._found: Counter[str] = Counter()

    def _mark_messages(self, chat: Chat) -> None:
        """Unless the template looks at how a text ends, so that the marks change what it writes."""
        marked = replace(chat, messages=tuple(_with_marks(i, message) for i, message in enumerate(chat.messages)))
        try:
            text = self._template.render(marked)
        except TemplateError:
            return
        if _MARK.sub("", text) == self._plain:
            self._chat, self._text = marked, text

    def located(self) -> Located:
        own = self._marked_by_template() if self._template.has_marks(self._chat) else {}
        spans: list[tuple[int, int]] = []
        for turn in sorted(self._learned - self._empty() - self._unwritten()):
            self._found["answers"] += 1
            spans += own.get(turn, []) if self._template.has_marks(self._chat) else self._searched(turn)
        self._count_unwritten()
        marks = [match.start() for match in _MARK.finditer(self._text)]
        answers = tuple((start - bisect_left(marks, start), end - bisect_left(marks, end)) for start, end in spans)
        return Located(text=self._plain, answers=answers, found=self._found)

    def _empty(self) -> set[int]:
        """Answers without text, reasoning and tool calls that the template writes."""
        empty = {turn for turn in self._learned if not (self._says(turn) or self._calls(turn))}
        self._found["empty answer"] = len(empty)
        return empty

    def _says(self, turn: int) -> bool:
        message = self._messages[turn]
        return any(isinstance(message.get(key), str) and message[key].strip() for key in ("content", *_REASONING_KEYS))

    def _calls(self, turn: int) -> bool:
        calls = self._messages[turn].get("tool_calls")
        return bool(calls) and (self._chat.messages is self._messages or self._name_mark(turn) in self._text)

    def _unwritten(self) -> set[int]:
        """Answers of whose text the template writes nothing."""
        if self._chat.messages is self._messages:
            return set()
        silent = {turn for turn in self._learned if self._messages[turn]["content"].strip() and not self._mark(turn, self._text)}
        text = _squashed(self._plain) if silent else ""
        return {turn for turn in silent if _squashed(self._messages[turn]["content"]) not in text}

    # One turn

    def _searched(self, turn: int) -> list[tuple[int, int]]:
        start = self._start(turn)
        end, same = self._end(turn, start)
        last = self._last_mark(turn, self._text)
        said = self._text[start : last if last > start else end]
        whole = self._check_whole(turn, _MARK.sub("", said), same)
        return [(start, end)] if whole else []

    def _start(self, turn: int) -> int:
        """After what the template writes to ask for this turn."""
        if turn == 0:
            return self._start_of_first()
        for history, whole in self._histories(turn):
            before = self._rendered(history, whole, ask=True)
            anchor, opening, after = self._behind(before, turn)
            at, shared = len(self._text) - len(after), _common_start(opening, after)
            if shared == len(opening) and (anchor or whole):
                self._found.update(asks_by_settings(self._template, history, after, anchor))
                return at + shared
        quiet = _common_start(self._stopped(turn, anchor).rstrip(), opening)
        if shared >= quiet:  # it asks in other words than it writes, such as with a <think> before the answer
            self._found.update(asks_otherwise(self._template, history, opening[quiet:], after, anchor))
            return at + max(quiet, *(opening.rfind(end, 0, shared) + 1 for end in (">", "]", "\n")))
        found = after.find(self._asking(turn)) if self._asking(turn) else -1
        if found < 0:
            raise ChangedTurnError(turn + 1)
        return at + found + len(self._asking(turn))

    def _histories(self, turn: int) -> Iterator[tuple[Chat, bool]]:
        """The conversation before `turn`: without its middle, which most templates do not look at, then whole, which takes longer."""
        messages = self._chat.messages
        if turn > _FEW:
            last = _FEW - _FIRST + (turn - _FEW) % 2  # an even number is left out, so that roles still alternate
            yield replace(self._chat, messages=(*messages[:_FIRST], *messages[turn - last : turn])), False
        yield self._chat.first(turn), True

    def _rendered(self, history: Chat, whole: bool, ask: bool = False) -> str:
        """ "" where a template refuses a conversation without its middle."""
        try:
            return self._template.render(history, ask)
        except TemplateError:
            if whole:
                raise
            return ""

    def _behind(self, text: str, turn: int) -> tuple[str, str, str]:
        """The mark of the last message before `turn` that is written, what follows it in `text`, and what in the whole conversation."""
        marks = (self._mark(i, text) for i in range(turn - 1, -1, -1))
        anchor = next((mark for mark in marks if mark and mark in self._text), "")
        return anchor, text.rpartition(anchor)[2] if anchor else text, self._after(anchor)

    def _start_of_first(self) -> int:
        """Nothing comes before it, and most templates refuse to render nothing."""
        first, *others = self._chat.messages
        changed = {**first, "content": _BEGIN + first["content"].lstrip()}
        text = self._template.render(replace(self._chat, messages=(changed, *others)))
        if _BEGIN in text and text.replace(_BEGIN, "") == self._text:
            return text.index(_BEGIN)
        asking = self._asking(1)
        return self._text.find(asking) + len(asking) if asking and asking in self._text else 0

    def _stopped(self, turn: int, anchor: str) -> str:
        """What follows `anchor` where the conversation stops before `turn` and no answer is asked for."""
        text = self._template.render(self._chat.first(turn))
        return text.rpartition(anchor)[2] if anchor else text

    def _asking(self, turn: int) -> str:
        """What the template adds to ask for an answer before `turn`."""
        before = self._template.render(self._chat.first(turn))
        asked = self._template.render(self._chat.first(turn), ask=True)
        return asked[len(before) :] if asked.startswith(before) else ""

    def _end(self, turn: int, start: int) -> tuple[int, bool]:
        """After the end of the turn, and whether the turn is written as if nothing followed."""
        for history, whole in self._histories(turn + 1):
            alone = self._rendered(history, whole).rstrip()
            anchor, expected, after = self._behind(alone, turn)
            at = len(self._text) - len(after)
            if after.startswith(expected) and at + len(expected) >= start and (anchor or whole):
                return at + len(expected), True
            mark = self._mark(turn, alone)
            if mark and mark in self._text and self._after(mark).startswith(alone.rpartition(mark)[2]):
                break
        if not mark or mark not in self._text:
            raise ChangedTurnError(turn + 1)
        tail, after = alone.rpartition(mark)[2], self._after(mark)
        return len(self._text) - len(after) + _end_of_turn(tail, after), False

    def _check_whole(self, turn: int, said: str, same: bool) -> bool:
        """Whether there is something to learn; counts turns that lost text. A turn that is changed otherwise must be so in every place."""
        message, said = self._messages[turn], _squashed(said)
        content = message["content"]
        reasons, lost = bool(_REASONING.search(content)), False
        if thoughts := next((message[key] for key in _REASONING_KEYS if isinstance(message.get(key), str) and message[key].strip()), ""):
            reasons, lost = True, _squashed(thoughts) not in said
        kept = {_squashed(text) for text in (_BLOCK.sub("", content), _UP_TO_END.sub("", content))} if reasons else {_squashed(content)}
        whole = _squashed(content) in said or _unmarked(content) in _unmarked(said)  # the generation prompt may hold the first mark
        dropped = lost or (reasons and not whole and any(text in said for text in kept))
        self._found.update({"reasoning": int(reasons), "reasoning lost": int(dropped)})
        if whole or dropped:
            return kept != {""} or not dropped
        if self._name_mark(turn) in self._text and chr(MARKS + 2 * turn) not in self._text:
            self._found["text beside tool calls"] += 1
            return True
        if not same:
            raise ChangedTurnError(turn + 1)
        self._found["answer changed"] += 1
        return True

    # Answers that the template marks itself

    def _marked_by_template(self) -> dict[int, list[tuple[int, int]]]:
        """Ranges of {% generation %} by message: each belongs to the first message that ends in it or after it."""
        text, ranges = self._template.marked(self._chat)
        if text != self._text:
            raise ChangedTurnError(1)
        ends = sorted((self._last_mark(i, text), i) for i in range(len(self._messages)) if self._last_mark(i, text) >= 0)
        answers = [i for i, message in enumerate(self._messages) if message["role"] == "assistant"]
        by_turn: dict[int, list[tuple[int, int]]] = {}
        for number, (start, end) in enumerate(ranges):
            at = bisect_left(ends, (start, -1))
            turn = ends[at][1] if at < len(ends) else answers[number] if len(answers) == len(ranges) else answers[-1]
            by_turn.setdefault(turn, []).append((start, end))
        self._check_marked(by_turn)
        return by_turn

    def _check_marked(self, by_turn: dict[int, list[tuple[int, int]]]) -> None:
        for turn in self._learned - self._empty():
            said = "".join(_MARK.sub("", self._text[start:end]) for start, end in by_turn.get(turn, []))
            if not said.strip():
                self._found["unmarked answer"] += 1
            else:
                self._check_whole(turn, said, same=True)
                with suppress(ChangedTurnError):
                    self._start(turn)

    # Marks

    def _mark(self, turn: int, text: str) -> str:
        """The mark of a message that comes last in a text, "" where neither is in it."""
        marks = [mark for mark in (chr(MARKS + 2 * turn), self._name_mark(turn)) if mark in text]
        return max(marks, key=text.rfind, default="")

    def _name_mark(self, turn: int) -> str:
        return chr(MARKS + 2 * turn + 1)

    def _last_mark(self, turn: int, text: str) -> int:
        mark = self._mark(turn, text)
        return text.rfind(mark) if mark else -1

    def _after(self, mark: str) -> str:
        return self._text.rpartition(mark)[2] if mark else self._text

    def _count_unwritten(self) -> None:
        """Messages with text that the template passes over."""
        if self._chat.messages is self._messages:
            return
        for turn, message in enumerate(self._messages):
            called = message.get("tool_calls") and self._name_mark(turn) in self._text
            if message["content"].strip() and chr(MARKS + 2 * turn) not in self._text and not called:
                self._found[f"turn not written:{message['role']}"] += 1
            if message.get("tool_calls") and not called:
                self._found["key not written:tool_calls"] += 1


def _with_marks(turn: int, message: Message) -> Message:
    marked = dict(message)
    if text := message["content"].rstrip():
        marked["content"] = text + chr(MARKS + 2 * turn) + message["content"][len(text) :]
    if message.get("tool_calls"):
        *others, last = message["tool_calls"]
        function = {**last["function"], "name": last["function"]["name"] + chr(MARKS + 2 * turn + 1)}
        marked["tool_calls"] = [*others, {**last, "function": function}]
    return marked


def _common_start(one: str, other: str) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _end_of_turn(tail: str, after: str) -> int:
    """How much of what follows a turn is its end, where a last turn ends in `tail`. Some families end a last turn in another token."""
    shared = _common_start(tail, after)
    if shared < len(tail):  # never a part of a token
        shared = max(tail.rfind(end, 0, shared) + 1 for end in (">", "]"))
    if tail and not shared and (token := _TOKEN.match(after)):
        return token.end()
    return shared


def _unmarked(text: str) -> str:
    return _squashed(_REASONING.sub("", text))


def _squashed(text: str) -> str:
    """Without white space, which templates trim and add."""
    return "".join(text.split())
