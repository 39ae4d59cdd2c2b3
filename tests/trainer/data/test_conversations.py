"""What of a conversation is trained on, under templates that behave as those of known families do."""

from __future__ import annotations

import json
from typing import Any

import chat_kinds as kinds
import pytest

from llmtrain_trainer.data.bad_data import BadData

TOOLS = [{"type": "function", "function": {"name": "get", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]
CALL = {"id": "call00001", "type": "function", "function": {"name": "get", "arguments": '{"city": "Oslo"}'}}


def user(content: Any, **keys: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **keys}


def assistant(content: Any, **keys: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **keys}


TWO = [{"role": "system", "content": "Be brief."}, user("What?"), assistant("It is four."), user("And?"), assistant("It is five.")]
THINKING = [
    user("What?"),
    assistant("<think>\nfirst reason\n</think>\n\nfour"),
    user("And?"),
    assistant("<think>\nother reason\n</think>\n\nfive"),
]
CALLING = {
    "messages": [user("What?"), assistant(None, tool_calls=[CALL]), {"role": "tool", "content": "7"}, assistant("Seven.")],
    "tools": TOOLS,
}

EXPECTED = {
    "chatml": "It is four.<|im_end|>It is five.<|im_end|>",
    "hybrid": "It is four.<|im_end|><think>\n\n</think>\n\nIt is five.<|im_end|>",
    "headers": "It is four.<|eot|>It is five.<|eot|>",
    "brackets": " It is four.<|end|> It is five.<|end|>",
    "stripped": "It is four.<|im_end|>It is five.<|im_end|>",
    "parts": "It is four.<|im_end|>It is five.<|im_end|>",
    "marked": "It is four.<|im_end|>It is five.<|im_end|>",
    "channels": "final<|/head|>It is four.<|im_end|>final<|/head|>It is five.<|eot|>",
    "twice": "It is four.<|eot|>It is five.<|eot|>\n<|end|>",
}


def found(name: str, values: dict[str, Any], **dataset: Any) -> dict[str, int]:
    _, document = kinds.encode(kinds.ALL[name], values, **dataset)
    return {kind: count for kind, count in document.found.items() if count and kind != "answers"}


@pytest.mark.parametrize("name", kinds.ALL)
def test_every_answer_is_learned_with_its_end_token_and_nothing_else(name: str) -> None:
    learned, ignored = kinds.learned_and_ignored(kinds.ALL[name], {"messages": TWO})
    assert learned == EXPECTED[name]
    assert "It is" not in ignored
    assert "What?" in ignored


@pytest.mark.parametrize("name", ["chatml", "hybrid", "headers", "stripped", "parts", "marked"])
def test_a_conversation_that_the_assistant_begins_is_learned_from_its_greeting_on(name: str) -> None:
    learned, ignored = kinds.learned_and_ignored(kinds.ALL[name], {"messages": [assistant("Hello."), *TWO[1:3]]})
    assert learned.startswith("Hello.<|")
    assert "It is four." in learned
    assert "Hello." not in ignored


def test_a_template_that_wants_the_user_first_says_so_itself() -> None:
    with pytest.raises(BadData, match="roles must alternate"):
        kinds.encode(kinds.BRACKETS, {"messages": [assistant("Hello."), *TWO[1:3]]})


@pytest.mark.parametrize("name", kinds.ALL)
def test_a_turn_of_weight_0_is_shown_and_not_learned(name: str) -> None:
    turns = [user("What?"), assistant("wrong", weight=0), user("And?"), assistant("right", weight=1)]
    learned, ignored = kinds.learned_and_ignored(kinds.ALL[name], {"messages": turns})
    assert "wrong" in ignored
    assert "right" in learned
    assert "wrong" not in learned


@pytest.mark.parametrize("key", ["train", "training", "weight", "trainable", "loss", "loss_weight", "learn"])
def test_a_turn_that_another_key_leaves_out_is_not_learned(key: str) -> None:
    turns = [user("What?"), assistant("wrong", **{key: False}), user("And?"), assistant("right", **{key: True})]
    learned, ignored = kinds.learned_and_ignored(kinds.ALL["chatml"], {"messages": turns})
    assert "wrong" in ignored and "right" in learned and "wrong" not in learned


def test_a_turn_that_is_no_answer_and_asks_to_be_learned_is_told() -> None:
    turns = [user("What?", train=True, weight=1), assistant("four", train=True)]
    assert found("chatml", {"messages": turns}) == {"not an answer:user": 1}


@pytest.mark.parametrize("name", kinds.ALL)
def test_answers_equal_to_their_questions_are_told_apart(name: str) -> None:
    learned, ignored = kinds.learned_and_ignored(kinds.ALL[name], {"messages": [user("yes"), assistant("yes")] * 2})
    assert (learned.count("yes"), ignored.count("yes")) == (2, 2)


def test_reasoning_that_the_template_drops_of_earlier_answers_is_counted_and_the_rest_learned() -> None:
    learned, _ = kinds.learned_and_ignored(kinds.HYBRID, {"messages": THINKING})
    assert learned == "four<|im_end|><think>\nother reason\n</think>\n\nfive<|im_end|>"
    assert found("hybrid", {"messages": THINKING}) == {"reasoning": 2, "reasoning lost": 1}


def test_reasoning_that_the_template_drops_everywhere_is_counted() -> None:
    assert found("stripped", {"messages": THINKING}) == {
        "reasoning": 2,
        "reasoning lost": 2,
        'asked otherwise:"<|Assistant|><think>\\n"': 2,
    }


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_under_a_key_of_its_own_is_learned_where_the_template_writes_it(key: str) -> None:
    turns = [user("What?"), assistant("four", **{key: "why"})]
    assert "why" in kinds.learned_and_ignored(kinds.HYBRID, {"messages": turns})[0]
    assert found("chatml", {"messages": turns}) == {"reasoning": 1, "reasoning lost": 1}


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("hybrid", '<call>\n{"name": "get", "arguments": {"city": "Oslo"}}\n</call><|im_end|>'),
        ("headers", '{"name": "get", "parameters": {"city": "Oslo"}}<|eot|>'),
        ("stripped", 'CALL get\n{"city": "Oslo"}<|im_end|>'),
    ],
)
@pytest.mark.parametrize("arguments", ['{"city": "Oslo"}', {"city": "Oslo"}], ids=["text", "object"])
def test_a_call_without_text_is_learned_as_the_template_writes_it(name: str, call: str, arguments: Any) -> None:
    called = {**CALL, "function": {"name": "get", "arguments": arguments}}
    turns = [user("What?"), assistant(None, tool_calls=[called]), {"role": "tool", "content": "7"}, assistant("Seven.")]
    learned, _ = kinds.learned_and_ignored(kinds.ALL[name], {"messages": turns})
    assert learned.startswith(call)
    assert "Seven." in learned


@pytest.mark.parametrize(
    "row",
    [
        {"tools": TOOLS},
        {"functions": [TOOLS[0]["function"]]},
        {"tools": '[{"type": "function", "function": {"name": "get", "parameters": {"city": 1}}}]'},
    ],
    ids=["tools", "functions", "json"],
)
def test_tools_of_a_row_reach_the_template(row: dict[str, Any]) -> None:
    _, ignored = kinds.learned_and_ignored(kinds.HYBRID, {"messages": TWO, **row})
    assert '"name": "get"' in ignored
    assert found("hybrid", {"messages": TWO, **row}) == {}


def test_tools_calls_and_answers_that_the_template_does_not_write_are_counted() -> None:
    assert found("chatml", CALLING) == {"empty answer": 1, "key not written:tool_calls": 1, "tools not written": 1}
    assert kinds.learned_and_ignored(kinds.CHATML, CALLING)[0] == "Seven.<|im_end|>"


def test_the_older_form_of_calls_is_read() -> None:
    turns = [
        user("What?"),
        assistant(None, function_call=CALL["function"]),
        {"role": "function", "name": "get", "content": "7"},
        assistant("!"),
    ]
    assert '"arguments": {"city": "Oslo"}' in kinds.learned_and_ignored(kinds.HYBRID, {"messages": turns})[0]


def test_turns_and_keys_that_the_template_passes_over_are_counted() -> None:
    turns = [{"role": "system", "content": "Be brief."}, user("What?", name="Bob"), assistant("four")]
    asked = 'asked otherwise:"<|Assistant|><think>\\n"'
    assert found("stripped", {"messages": turns}) == {"turn not written:system": 1, "key not written:name": 1, asked: 1}


@pytest.mark.parametrize("name", kinds.ALL)
def test_text_parts_are_joined(name: str) -> None:
    parts = [user([{"type": "text", "text": "Wh"}, {"type": "text", "text": "at?"}]), assistant([{"type": "text", "text": "four"}])]
    whole = kinds.learned_and_ignored(kinds.ALL[name], {"messages": [user("What?"), assistant("four")]})
    assert kinds.learned_and_ignored(kinds.ALL[name], {"messages": parts}) == whole


@pytest.mark.parametrize("name", kinds.ALL)
def test_letters_of_control_tokens_in_a_text_stay_letters(name: str) -> None:
    turns = [user("What does <|im_end|>\n<|im_start|>assistant\nYes do?"), assistant("It <|im_end|> ends a turn.")]
    made, document = kinds.encode(kinds.ALL[name], {"messages": turns})
    plain, expected = kinds.encode(kinds.ALL[name], {"messages": [user("a"), assistant("b")]})
    controls = [made.convert_tokens_to_ids(token) for token in ("<|im_start|>", "<|im_end|>")]
    assert [i for i in document.ids if i in controls] == [i for i in expected.ids if i in controls]
    assert made.decode(document.ids.tolist()).count("<|im_end|>") == 2 + plain.decode(expected.ids.tolist()).count("<|im_end|>")
    assert "It <|im_end|> ends a turn." in made.decode(document.ids[document.loss_mask].tolist())
    assert document.found["control tokens:<|im_end|>"] == 1


def test_letters_of_control_tokens_become_tokens_where_the_manifest_says_so() -> None:
    text = "<|im_start|>user\nWhat?<|im_end|>\n"
    made, document = kinds.encode(None, {"text": text}, format="text", controlTokens=True)
    assert made.convert_tokens_to_ids("<|im_start|>") in document.ids
    _, kept = kinds.encode(None, {"text": text}, format="text")
    assert made.convert_tokens_to_ids("<|im_start|>") not in kept.ids
    assert made.decode(kept.ids.tolist()) == f"{text}<|end|>"


def test_marks_of_reasoning_in_an_answer_stay_the_tokens_that_the_model_is_to_write() -> None:
    made = kinds.tokenizer(kinds.CHATML)
    made.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    _, document = kinds.encode(kinds.CHATML, {"messages": THINKING[:2]})
    assert made.convert_tokens_to_ids("<think>") in document.ids


def test_an_end_in_letters_alone_gets_the_end_token_and_is_counted() -> None:
    template = kinds.CHATML.replace("<|im_end|>", "</end>")
    learned, _ = kinds.learned_and_ignored(template, {"messages": TWO})
    assert learned == "It is four.</end>It is five.</end><|end|>"
    assert kinds.encode(template, {"messages": TWO})[1].found["no end token"] == 1


def test_columns_that_are_not_read_are_counted_unless_harmless_empty_or_named() -> None:
    row = {"messages": TWO, "id": 3, "source": "x", "n_tokens": 7, "created_at": "x", "notes": None, "label": "good", "title": "t"}
    assert found("chatml", row) == {"column not read:label": 1, "column not read:title": 1}
    assert found("chatml", row, ignoreColumns=["label", "title"]) == {}


ALPACA = {"instruction": "Add.", "input": "1 and 2", "output": "3"}
SPOKEN = [user("What?"), assistant("four")]
REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"messages": [{"from": "human", "value": "x"}]}, {}, "messages[1] is a turn in ShareGPT's form (from, value)"),
    ({"messages": [user("x"), assistant("y", weight=0.5)]}, {}, "messages[2] has weight 0.5: a turn is learned (1 or true) or not (0 or"),
    (
        {
            "messages": [
                user("x"),
                {"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "get", "arguments": '{"city": "Os'}}]},
            ]
        },
        {},
        "messages[2] has a tool call whose arguments are not a JSON object",
    ),
    ({"messages": [user("x"), assistant("y", mask=1)]}, {}, "messages[2] has mask 1, which some trainers read as learned"),
    ({"messages": [user("x"), assistant("y", loss_mask=0)]}, {}, "Write weight 1 or 0 in place of loss_mask: 1 is learned, 0 is not"),
    ({"messages": [user("x"), assistant("y", train_on_turn=False)]}, {}, "messages[2] has train_on_turn False, which some trainers"),
    ({"messages": [user("x"), assistant("y", ignore_loss=True)]}, {}, "Write weight 1 or 0 in place of ignore_loss"),
    ({"messages": [user("x"), assistant("y", loss_scale=0.3)]}, {}, "messages[2] has loss_scale 0.3: a turn is learned (1 or true) or not"),
    ({"messages": [user("x"), assistant(None, refusal="No.")]}, {}, "messages[2] has no content (found role, content, refusal). Write"),
    ({"messages": [user("x"), assistant(None, audio={"id": "a"})]}, {}, "messages[2] has audio and no content: only text is trained on"),
    ({"messages": [user("x"), assistant("y", loss="yes")]}, {}, "messages[2] has loss 'yes': a turn is learned (1 or true) or not"),
    ({"messages": [user("x"), assistant("y", weight=1, train=False)]}, {}, "messages[2] has weight and train, which say different things"),
    (
        {"messages": [user([{"type": "image_url", "image_url": {"url": "x"}}]), assistant("y")]},
        {},
        "messages[1] has content part 1 of type image_url: only text is trained on",
    ),
    ({"messages": [user(["x"]), assistant("y")]}, {}, 'messages[1] has content part 1 that is text, not {"type": "text"'),
    ({"messages": [user({"a": 1}), assistant("y")]}, {}, "messages[1] has content that is an object, not text or a list of text parts"),
    (
        {"messages": [user("x"), assistant(None, tool_calls=[{"id": "1"}])]},
        {},
        "messages[2] has a tool call that is an object without a name",
    ),
    (
        {"messages": [user([{"type": "thinking", "thinking": "x"}])]},
        {},
        'type thinking, not {"type": "text", "text": ...}. Write its text as reason',
    ),
    (
        {"messages": [user("x"), {"role": "assistant", "text": "y"}]},
        {},
        "messages[2] has no content (found role, text). Write what the turn says",
    ),
    (
        {"messages": [*SPOKEN, user("x"), {"role": "gpt", "content": "y"}]},
        {},
        "some answers of the conversation have role assistant and some role gpt",
    ),
    ({"messages": SPOKEN, "tools": ["get"]}, {}, "tools is a list, not a list of objects"),
    ({"messages": SPOKEN, "images": ["a.png"]}, {}, "column images holds something other than text"),
    ({"messages": SPOKEN, "system": "Be brief."}, {}, "column system holds a part of the prompt"),
    ({"messages": [{"role": "human", "content": "x"}]}, {}, "no turn with role assistant to learn (found human)"),
    (
        {"messages": [{"role": "User ", "content": "x"}, {"role": "Assistant", "content": "y"}]},
        {},
        'set dataset[0].roles to {"User ": user, "Assistant": assistant}',
    ),
    (
        {"messages": [{"role": "human", "content": "x"}, {"role": "expert", "content": "y"}]},
        {},
        'roles to {"human": user, "expert": assistant} if that speaker answers',
    ),
    (
        {"instruction": "Add.", "input": "1 and 2", "output": "3"},
        {"format": "promptCompletion", "columns": {"prompt": "instruction", "completion": "output"}},
        "column input holds a part of the prompt that format promptCompletion does not read. Write its text into",
    ),
    (
        ALPACA,
        {"format": "promptCompletion"},
        "it is in Alpaca's form (instruction, input, output), which format promptCompletion does not read. Set",
    ),
    (
        {"conversations": [{"from": "human", "value": "x"}]},
        {},
        "conversations[1] is a turn in ShareGPT's form (from, value). Set d",
    ),
    ({"text": SPOKEN}, {"format": "text"}, "column text is a list, not text. Set dataset[0].format to messages and"),
]


@pytest.mark.parametrize(("values", "dataset", "message"), REFUSED, ids=[message[:50] for *_, message in REFUSED])
def test_what_cannot_be_trained_on_is_refused_with_row_and_place(values: dict[str, Any], dataset: dict[str, Any], message: str) -> None:
    with pytest.raises(BadData) as raised:
        kinds.encode(kinds.CHATML, values, **dataset)
    assert message in str(raised.value)
    assert "f row 1" in str(raised.value)


def test_turns_of_a_role_that_no_template_knows_are_told_of() -> None:
    row = {"messages": [user("x"), assistant("y"), {"role": "critic", "content": "no"}, assistant("z")]}
    assert found("chatml", row)["other role:critic"] == 1


def test_the_way_out_of_a_refused_column_works() -> None:
    columns = {"prompt": "instruction", "completion": "output"}
    row = {"instruction": "Add.", "input": "1 and 2", "output": "3"}
    learned, _ = kinds.learned_and_ignored(None, row, format="promptCompletion", columns=columns, ignoreColumns=["input"])
    assert learned == "3<|end|>"
    repeated = {**row, "instruction": "Add 1 and 2"}
    assert kinds.learned_and_ignored(None, repeated, format="promptCompletion", columns=columns)[0] == "3<|end|>"


def test_conversations_may_be_json_text_as_csv_holds_them() -> None:
    row = {"prompt": json.dumps(TWO[:4]), "completion": json.dumps(TWO[4:]), "tools": json.dumps(TOOLS)}
    learned, ignored = kinds.learned_and_ignored(kinds.HYBRID, row, format="promptCompletion")
    assert learned == "<think>\n\n</think>\n\nIt is five.<|im_end|>"
    assert '"name": "get"' in ignored


@pytest.mark.parametrize("change", ["[:3]", "[0]"])
def test_a_template_that_shortens_text_is_not_given_lists_which_it_would_write_as_data(change: str) -> None:
    template = kinds.CHATML.replace("{{ m.content }}", f"{{{{ m.content{change} }}}}")
    made, document = kinds.encode(template, {"messages": [user("what"), assistant("answer")]})
    assert made.decode(document.ids.tolist()) == ""
    assert document.found["turn not written:assistant"] == 1


def test_a_row_may_set_variables_of_the_template_and_nothing_else() -> None:
    template = "{% if loud %}<|head|>{% endif %}" + kinds.CHATML
    assert "<|head|>" in kinds.learned_and_ignored(template, {"messages": TWO, "chat_template_kwargs": {"loud": True}})[1]
    assert found("chatml", {"messages": TWO, "chat_template_kwargs": {"loud": True}}) == {"column not written:chat_template_kwargs": 1}
    with pytest.raises(BadData, match="chat_template_kwargs names chat_template, which is no variable"):
        kinds.encode(kinds.CHATML, {"messages": TWO, "chat_template_kwargs": {"chat_template": "x"}})


def test_a_template_that_writes_the_date_writes_the_same_one_at_each_start() -> None:
    template = "Today {{ strftime_now('%d %b %Y') }}\n" + kinds.CHATML
    made, document = kinds.encode(template, {"messages": TWO})
    assert made.decode(document.ids.tolist()).startswith("Today 26 Jul 2024\n")
    assert document.found["today"] == 1


def test_keys_that_only_look_like_marks_of_learning_are_told() -> None:
    """A name or a measure says nothing of what is learned."""
    row = {"messages": [user("x"), assistant("y", train_id="a7", training_steps=300)]}
    assert found("chatml", row) == {"key not written:train_id": 1, "key not written:training_steps": 1}


def test_a_turn_is_left_out_by_any_key_that_says_so() -> None:
    for key in ("weight", "train", "loss", "loss_scale", "trainable"):
        template = kinds.ALL["chatml"]
        made, document = kinds.encode(template, {"messages": [user("x"), assistant("bad", **{key: 0}), user("z"), assistant("good")]})
        assert "bad" not in made.decode(document.ids[document.loss_mask].tolist())
