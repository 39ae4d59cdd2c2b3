"""Format sharegpt: what is learned of its turns, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import chat_kinds as kinds
import pytest

from llmtrain_trainer.config import Dataset
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.formats.rendering import plain_texts
from llmtrain_trainer.data.sources.dataset import Row

CALL = json.dumps({"name": "get", "arguments": {"city": "Oslo"}})
TOOL = {"name": "get", "parameters": {"type": "object"}}
TURNS = [{"from": "human", "value": "What is two and two?"}, {"from": "gpt", "value": "It is four."}]


def said(*turns: tuple[str, Any], **others: Any) -> dict[str, Any]:
    return {"conversations": [{"from": speaker, "value": value} for speaker, value in turns], **others}


def both(row: dict[str, Any], **dataset: Any) -> tuple[str, str]:
    return kinds.learned_and_ignored(kinds.HYBRID, row, format="sharegpt", **dataset)


def as_messages(row: dict[str, Any]) -> tuple[str, str]:
    return kinds.learned_and_ignored(kinds.HYBRID, row)


def test_turns_are_written_and_learned_as_the_same_messages_are() -> None:
    row = said(("system", "Be brief."), ("human", "And?"), ("gpt", "Two."), ("user", "Then?"), ("assistant", "Three."))
    roles = ("system", "user", "assistant", "user", "assistant")
    same = [{"role": role, "content": turn["value"]} for role, turn in zip(roles, row["conversations"], strict=True)]
    assert both(row) == as_messages({"messages": same})
    assert both({"conversations": json.dumps(row["conversations"])}) == both(row)
    weighted = {"conversations": [TURNS[0], {**TURNS[1], "weight": 0}, *TURNS]}
    assert both(weighted)[0].count("It is four.") == 1


def test_calls_of_tools_are_learned_and_what_they_gave_is_shown() -> None:
    row = said(("human", "Rain?"), ("function_call", CALL), ("observation", "rain"), ("gpt", "Yes."), tools=json.dumps([TOOL]))
    learned, ignored = both(row)
    assert '{"name": "get", "arguments": {"city": "Oslo"}}' in learned
    assert "Yes." in learned
    assert "rain" in ignored
    assert '"parameters"' in ignored


def test_the_system_column_comes_first_once() -> None:
    assert "Be brief." in both({"conversations": TURNS, "system": "Be brief."})[1]
    assert both({"conversations": [{"from": "system", "value": "Be brief."}, *TURNS], "system": "Be brief."})[1].count("Be brief.") == 1
    assert both({"conversations": TURNS, "system": ""}) == both({"conversations": TURNS})


def test_own_names_of_speakers_columns_and_roles_are_read() -> None:
    row = {"chat": said(("customer", "What is two and two?"), ("agent", "It is four."))["conversations"], "rules": "Be brief."}
    settings = {"columns": {"conversations": "chat", "system": "rules"}, "roles": {"customer": "user", "agent": "assistant"}}
    assert both(row, **settings) == both({"conversations": TURNS, "system": "Be brief."})
    messages = [{"role": "customer", "content": "And?"}, {"role": "agent", "content": "Two."}]
    assert kinds.learned_and_ignored(kinds.CHATML, {"messages": messages}, roles=settings["roles"])[0] == "Two.<|im_end|>"


def test_a_tokenizer_is_trained_on_the_values_and_no_names_of_speakers() -> None:
    dataset = Dataset.model_validate({"source": "file:///x", "format": "sharegpt"})
    assert plain_texts("d", dataset, Row("f row 1", {"conversations": TURNS})) == ["What is two and two?", "It is four."]


REFUSED: list[tuple[dict[str, Any], str]] = [
    (said(("narrator", "x")), "has from 'narrator', a speaker without a role (known are system, human"),
    (said(("narrator", "x")), "Set dataset[0].roles to {narrator: user}"),
    (said(("human", "x"), ("function_call", "none")), "conversations[2] has from function_call and a value that is no JSON object"),
    (said(("human", "x"), ("function_call", "{}")), "conversations[2] has a tool call that is an object without a name"),
    (said(("human", 3), ("gpt", "y")), "conversations[1] has content that is a number"),
    ({"conversations": [{"from": "human"}]}, "conversations[1] is an object, not an object with from and value"),
    ({"conversations": "[{"}, "column conversations is text, but not JSON. Write the list of {from, value} as JSON"),
    ({"conversations": [{"role": "user", "content": "x"}]}, "Set dataset[0].format to messages and dataset[0].columns.messages to conv"),
    ({"conversations": [{"from": "system", "value": "a"}, *TURNS], "system": "b"}, "both hold the system message, and they differ"),
    ({"conversations": TURNS, "system": 3}, "column system is a number, not text"),
    ({"conversations": TURNS, "system_prompt": "x"}, "Write its text into column system, or name it in dataset[0].ignoreColumns"),
    ({"conversations": TURNS, "images": ["a.png"]}, "column images holds something other than text"),
    ({"messages": [{"role": "user", "content": "x"}]}, "Set dataset[0].format to messages"),
    ({"chat": TURNS}, "Set dataset[0].columns.conversations to chat, if it holds it"),
]


@pytest.mark.parametrize(("row", "message"), REFUSED, ids=[message[:50] for _, message in REFUSED])
def test_what_cannot_be_trained_on_is_refused_with_row_and_way_out(row: dict[str, Any], message: str) -> None:
    with pytest.raises(BadData) as raised:
        both(row)
    assert message in str(raised.value)
    assert "f row 1" in str(raised.value)


def test_the_way_out_that_names_the_format_works() -> None:
    for values, settings in (({"conversations": TURNS}, {}), ({"chat": TURNS}, {"columns": {"messages": "chat"}})):
        with pytest.raises(BadData, match=r"Set dataset\[0\].format to sharegpt"):
            kinds.encode(kinds.CHATML, values, **settings)
        columns = {"conversations": next(iter(values))}
        assert both(values, columns=columns) == both({"conversations": TURNS})
