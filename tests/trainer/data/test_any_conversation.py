"""Whatever people wrote: each answer is learned once, whole, with the end of its turn, and nobody's letters become control tokens."""

from __future__ import annotations

from functools import cache
from typing import Any

import chat_kinds as kinds
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtrain_trainer.config import Dataset
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.formats import answers
from llmtrain_trainer.data.formats.encoding import Encoder
from llmtrain_trainer.data.sources.dataset import Row

pytestmark = pytest.mark.long

PIECES = ["yes", "It is", " ", "\n", "  \n", "assistant\n", "<", "<|", "|>", "<|im_end|>", "<|im_start|>assistant\n", "[/INST]", "<bos>"]
PIECES += ["<|end|>", "é", "日", "\u200d", "{{ m }}", "{% endfor %}", "'", '"', "\\n", "<t>", "\ue000", "\U000f0001", "<|eot|>", "\t"]
WORDS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join).filter(lambda text: text.strip() != "")
PAIRS = st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4)


@cache
def encoder(name: str) -> tuple[Any, Encoder]:
    made = kinds.tokenizer(kinds.ALL[name])
    return made, Encoder("dataset[0]", Dataset(source="file:///x", format="messages"), made)


def turns_of(pairs: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for pair in pairs for role, text in zip(("user", "assistant"), pair, strict=True)]


def squashed(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("name", kinds.ALL)
@settings(deadline=None, max_examples=25)
@given(pairs=PAIRS)
def test_every_answer_is_learned_once_and_whole(name: str, pairs: list[tuple[str, str]]) -> None:
    made, encode = encoder(name)
    found, plain = (encode([Row("f row 1", {"messages": turns_of(some)})])[0] for some in (pairs, [("a", "b")] * len(pairs)))
    runs = np.flatnonzero(np.diff(np.concatenate([[0], found.loss_mask.astype(np.int8), [0]]))).reshape(-1, 2)
    assert len(runs) == len(pairs)
    for (start, stop), (_, answer) in zip(runs.tolist(), pairs, strict=True):
        assert squashed(answer) in squashed(made.decode(found.ids[start:stop].tolist()))
    controls = {made.convert_tokens_to_ids(token) for token in (*kinds.SPECIAL, "<|end|>")}
    assert [i for i in found.ids.tolist() if i in controls] == [i for i in plain.ids.tolist() if i in controls]
    ignored = squashed(made.decode(found.ids[~found.loss_mask].tolist()))
    assert all(squashed(question) in ignored for question, _ in pairs)


@pytest.mark.parametrize("name", kinds.ALL)
@settings(deadline=None, max_examples=4)
@given(pairs=st.lists(st.tuples(WORDS, WORDS), min_size=9, max_size=12))
def test_a_long_conversation_is_read_alike_with_and_without_its_middle(name: str, pairs: list[tuple[str, str]]) -> None:
    _, encode = encoder(name)
    rows = [Row("f row 1", {"messages": turns_of(pairs)})]
    quick = encode(rows)[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answers, "_FEW", 10**6)
        slow = encode(rows)[0]
    assert np.array_equal(quick.ids, slow.ids)
    assert np.array_equal(quick.loss_mask, slow.loss_mask)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "a", "[1]", '{"a": 1}', "<|im_end|>", "assistant"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "text", "function", "name", "arguments"]), inner),
    max_leaves=8,
)
KEYS = {"role": st.sampled_from(["user", "assistant", "tool", "system", "function", "x"]) | ANYTHING, "content": WORDS | ANYTHING}
OTHERS = {"weight": ANYTHING, "tool_calls": ANYTHING, "function_call": ANYTHING, "reasoning_content": ANYTHING, "name": ANYTHING}
MESSAGE = st.fixed_dictionaries(KEYS, optional=OTHERS) | ANYTHING
ROW = st.fixed_dictionaries(
    {"messages": st.lists(MESSAGE, max_size=4) | ANYTHING},
    optional={"tools": ANYTHING, "functions": ANYTHING, "documents": ANYTHING, "chat_template_kwargs": ANYTHING, "images": ANYTHING},
)


@pytest.mark.parametrize("name", ["hybrid", "brackets", "marked", "parts"])
@settings(deadline=None, max_examples=100)
@given(row=ROW)
def test_whatever_a_row_holds_it_is_read_or_refused_by_name(name: str, row: dict[str, Any]) -> None:
    _, encode = encoder(name)
    try:
        encode([Row("f row 1", row)])
    except BadData as error:
        assert "f row 1" in str(error)
