"""Control tokens that stand as letters in somebody's text, and how they stay letters.

Letters of a control token (`<|im_end|>`) in a row are replaced by one private character each before a template is rendered; so what is
left of such letters in the result is the template's own. Then the text is encoded by a copy of the tokenizer that knows each control
token by another name: the template's are renamed, and the letters of a row are put back and are nothing special to the copy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmtrain_trainer.data.cache import digest
from llmtrain_trainer.data.template_bounds import bounded

GUARDS = 0x108000
"""The first of the private characters (Unicode plane 16) that stand for letters of control tokens."""

_WITHIN_ANSWERS = re.compile(r"</?(think|thinking|thought|reasoning|answer|tool_calls?|tool_responses?|tools?)>|\[/?THINK\]")
"""What an answer itself may hold: the model is to write these tokens."""

Ranges = tuple[tuple[int, int], ...]


class ControlTokens:
    """The special tokens of a tokenizer and the other added ones that its chat template writes around turns."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder.values()
        written = _written(tokenizer)
        names = {token.content for token in added if token.special or token.content in written}
        names |= {str(token) for token in tokenizer.all_special_tokens}
        self.names: tuple[str, ...] = tuple(sorted((name for name in names if name.strip()), key=lambda name: (-len(name), name)))
        self._all = _any_of(self.names)
        self._outside = _any_of([name for name in self.names if not _WITHIN_ANSWERS.fullmatch(name)])
        self._numbers = {name: number for number, name in enumerate(self.names)}

    def inside(self, text: str) -> set[str]:
        """Names of control tokens whose letters stand in a text."""
        return set(self._all.findall(text))

    def guarded(self, value: Any, answer: bool = False) -> Any:
        """Text, lists and objects with the letters replaced. `answer`: those of _WITHIN_ANSWERS stay."""
        if isinstance(value, str):
            return (self._outside if answer else self._all).sub(lambda found: chr(GUARDS + self._numbers[found.group()]), value)
        if isinstance(value, dict):
            return {self.guarded(key, answer): self.guarded(item, answer) for key, item in value.items()}
        return [self.guarded(item, answer) for item in value] if isinstance(value, list) else value

    def guards_in(self, text: str) -> set[str]:
        """Names that stand guarded in a text."""
        return {self.names[ord(c) - GUARDS] for c in set(text) if GUARDS <= ord(c) < GUARDS + len(self.names)}

    def released(self, text: str, ranges: Ranges) -> tuple[str, Ranges]:
        """A guarded text and character ranges in it as the copy of the tokenizer gets them. No range begins or ends inside a token."""
        guards = f"[{chr(GUARDS)}-{chr(GUARDS + len(self.names))}]"
        pieces, moved, at, shift = [], [list(span) for span in ranges], 0, 0
        for found in re.finditer(f"{self._all.pattern}|{guards}", text):
            name = found.group()
            new = self.names[ord(name) - GUARDS] if ord(name[0]) >= GUARDS else self._renamed[name]
            pieces += [text[at : found.start()], new]
            at, shift = found.end(), shift + len(new) - len(name)
            for span, before in zip(moved, ranges, strict=True):
                span[0] = before[0] + shift if before[0] >= found.end() else span[0]
                span[1] = before[1] + shift if before[1] >= found.end() else span[1]
        return "".join([*pieces, text[at:]]), tuple((start, end) for start, end in moved)

    def ends_in(self, text: str) -> str | None:
        """The control token that a text ends in."""
        return next((name for name in self.names if text.endswith(name)), None)

    def encode(self, texts: Sequence[str]) -> list[Any]:
        """Encodings of released texts; their ids are the copy's (see `original`)."""
        encodings: list[Any] = self._copy.encode_batch(list(texts), add_special_tokens=False)
        return encodings

    def original(self, ids: NDArray[np.int32]) -> NDArray[np.int32]:
        """Ids of the copy as the tokenizer has them."""
        return self._ids[ids] if len(ids) else ids

    @cached_property
    def _renamed(self) -> dict[str, str]:
        """Letters and digits, which no normalizer changes; the digest keeps them out of texts."""
        key = digest(self.names)[:12]
        return {name: f"qz{key}{number:05d}zq" for name, number in self._numbers.items()}

    @cached_property
    def _copy(self) -> Any:
        from tokenizers import Tokenizer

        return Tokenizer.from_str(json.dumps(_renamed(json.loads(self._tokenizer.backend_tokenizer.to_str()), self._renamed)))

    @cached_property
    def _ids(self) -> NDArray[np.int32]:
        back = {new: name for name, new in self._renamed.items()}
        known = self._copy.get_vocab(with_added_tokens=True)
        table = np.arange(max(known.values()) + 1, dtype=np.int32)
        for name, number in known.items():
            mine = self._tokenizer.backend_tokenizer.token_to_id(back.get(name, name))
            table[number] = number if mine is None else mine
        return table


def _written(tokenizer: Any) -> str:
    """What the template writes around turns that say nothing in particular."""
    try:
        with bounded():
            return str(
                tokenizer.apply_chat_template([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], tokenize=False)
            )
    except Exception:  # no template, or one that wants more; then only special tokens are known
        return ""


def _any_of(names: Sequence[str]) -> re.Pattern[str]:
    """Longer ones first, as the tokenizer matches them."""
    return re.compile("|".join(map(re.escape, names)) or "(?!)")


def _renamed(tokenizer: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """tokenizer.json with control tokens under other names, in the model's vocabulary too: unigram would find them there."""
    model = tokenizer["model"]
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {names.get(token, token): number for token, number in vocabulary.items()}
    else:
        model["vocab"] = [[names.get(token, token), score] for token, score in vocabulary]
    if "merges" in model:
        model["merges"] = [merge for merge in model["merges"] if not _touches(merge, names)]
    if model.get("unk_token"):
        model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
    added = [{**token, "content": names.get(token["content"], token["content"])} for token in tokenizer["added_tokens"]]
    return {**tokenizer, "model": model, "added_tokens": added, "post_processor": None, "truncation": None, "padding": None}


def _touches(merge: Any, names: dict[str, str]) -> bool:
    parts = merge.split(" ", 1) if isinstance(merge, str) else merge
    return "".join(parts) in names or any(part in names for part in parts)
