"""Which tokens are learned, under several kinds of chat template."""

from __future__ import annotations

from typing import Any

import pytest

from llmtrain_trainer.config import Dataset, TokenizerTraining
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.formats.encoding import LONGEST_PIECE, Encoder, in_pieces
from llmtrain_trainer.data.formats.rendering import PLAIN_TEMPLATE
from llmtrain_trainer.data.sources.dataset import Row
from llmtrain_trainer.prepare import tokenizer as tokenizers

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
MARKED = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}"
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
REASONING_OF_THE_LAST_ONLY = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}"
    "{% if m.role == 'assistant' and loop.last %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"
    "{{ m.content + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
WITHOUT_END = (
    "{% for m in messages %}{{ '[' + m.role + '] ' + m.content + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
)
SHOUTING = "{% for m in messages %}{{ m.content | upper if not loop.last else m.content }}\n{% endfor %}"

TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is two and two?"},
    {"role": "assistant", "content": "It is four."},
    {"role": "user", "content": "And three?"},
    {"role": "assistant", "content": "It is five."},
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    texts = ["What is two and two? It is four. And three? It is five. Be brief. user assistant system"] * 3
    trained = tokenizers.train(TokenizerTraining(algorithm="bpe", vocab_size=320), lambda: texts)
    trained.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    return trained


def learned_and_ignored(tokenizer: Any, template: str | None, values: dict[str, Any], **dataset: Any) -> tuple[str, str]:
    """Text of the learned tokens and of the others."""
    tokenizer.chat_template = template
    encoded = Encoder("dataset[0]", Dataset(source="file:///x", **dataset), tokenizer)([Row("x row 1", values)])[0]
    learned, ignored = encoded.ids[encoded.loss_mask], encoded.ids[~encoded.loss_mask]
    return tokenizer.decode(learned.tolist()), tokenizer.decode(ignored.tolist())


@pytest.mark.parametrize("template", [CHATML, MARKED], ids=["chatml", "generation marks"])
def test_every_answer_is_learned_with_its_end_token_and_nothing_else(tokenizer: Any, template: str) -> None:
    learned, ignored = learned_and_ignored(tokenizer, template, {"messages": TURNS}, format="messages")
    assert learned == "It is four.<|im_end|>It is five.<|im_end|>"
    assert "It is" not in ignored
    assert ignored.endswith("<|im_start|>assistant\n")


def test_the_plain_template_ends_every_answer_with_the_end_token(tokenizer: Any) -> None:
    learned, ignored = learned_and_ignored(tokenizer, PLAIN_TEMPLATE, {"messages": TURNS}, format="messages")
    assert learned == "It is four.<|end|>It is five.<|end|>"
    assert ignored.startswith("System:\nBe brief.\nUser:\nWhat is two and two?\nAssistant:\n")


def test_a_template_that_drops_reasoning_of_earlier_turns_still_marks_each_answer(tokenizer: Any) -> None:
    learned, _ = learned_and_ignored(tokenizer, REASONING_OF_THE_LAST_ONLY, {"messages": TURNS}, format="messages")
    assert learned == "It is four.<|im_end|><think>\n\n</think>\n\nIt is five.<|im_end|>"


def test_a_template_without_an_end_token_gets_one_after_the_last_answer(tokenizer: Any) -> None:
    learned, _ = learned_and_ignored(tokenizer, WITHOUT_END, {"messages": TURNS}, format="messages")
    assert learned.endswith("It is five.<|end|>")


def test_a_template_that_rewrites_answers_is_refused(tokenizer: Any) -> None:
    with pytest.raises(BadData, match="changes turn 3"):
        learned_and_ignored(tokenizer, SHOUTING, {"messages": TURNS}, format="messages")


def test_what_follows_the_last_answer_is_left_out(tokenizer: Any) -> None:
    learned, ignored = learned_and_ignored(tokenizer, CHATML, {"messages": TURNS[:4]}, format="messages")
    assert learned == "It is four.<|im_end|>"
    assert "three" not in ignored


def test_a_completion_is_learned_and_its_prompt_is_not(tokenizer: Any) -> None:
    values = {"question": "What is two and two? ", "completion": "It is four."}
    learned, ignored = learned_and_ignored(tokenizer, None, values, format="promptCompletion", columns={"prompt": "question"})
    assert (learned.strip(), ignored.strip()) == ("It is four.<|end|>", "What is two and two?")


def test_a_completion_may_be_a_list_of_messages(tokenizer: Any) -> None:
    learned, ignored = learned_and_ignored(tokenizer, CHATML, {"prompt": TURNS[:4], "completion": TURNS[4:]}, format="promptCompletion")
    assert learned == "It is five.<|im_end|>"
    assert "It is four." in ignored


def test_text_is_learned_whole(tokenizer: Any) -> None:
    assert learned_and_ignored(tokenizer, None, {"text": "It is four."}) == ("It is four.<|end|>", "")


def test_a_long_text_is_tokenised_in_pieces_that_lose_nothing() -> None:
    text = ("a line of text\n" * (LONGEST_PIECE // 10)) + "x" * (2 * LONGEST_PIECE)
    pieces = in_pieces(text)
    assert "".join(pieces) == text
    assert max(map(len, pieces)) <= LONGEST_PIECE
    assert pieces[0].endswith("\n")


BAD_ROWS = [
    (
        {"body": "x"},
        {},
        "columns.text is text: there is no such column in f row 3 (found body). Set dataset[0].columns.text to body, if it holds it.",
    ),
    (
        {"text": 5},
        {},
        "f row 3: column text is a number, not text. Correct the row, or set dataset[0].columns.text to another column.",
    ),
    ({"text": None}, {}, "column text is empty, not text"),
    ({"messages": "hi"}, {"format": "messages"}, "column messages is text, not a list of {role, content}"),
    (
        {"messages": [{"role": "user"}, "x"]},
        {"format": "messages"},
        "messages[2] is text, not an object with role and content",
    ),
    (
        {"messages": [*TURNS[:2], {"role": "bot", "content": "four"}]},
        {"format": "messages"},
        "the conversation has no turn with role assistant to learn (found system, user, bot)",
    ),
    ({"prompt": "x"}, {"format": "promptCompletion"}, "dataset[0].columns.completion is completion: there is no such column"),
]


@pytest.mark.parametrize(("values", "dataset", "message"), BAD_ROWS, ids=[message[:60] for *_, message in BAD_ROWS])
def test_a_bad_row_is_named_with_what_was_found(tokenizer: Any, values: dict[str, Any], dataset: dict[str, Any], message: str) -> None:
    tokenizer.chat_template = CHATML
    with pytest.raises(BadData) as raised:
        Encoder("dataset[0]", Dataset(source="file:///x", **dataset), tokenizer)([Row("f row 3", values)])
    assert message in str(raised.value)
