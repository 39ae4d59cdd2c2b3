"""Format alpaca: what is learned of its rows, with a chat template and without one."""

from __future__ import annotations

import json
from typing import Any

import chat_kinds as kinds
import pytest
from small_job import Job, config_of

from llmtrain_trainer.config import Dataset
from llmtrain_trainer.config.tables.chat_templates import ALPACA_TEMPLATE
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.formats.encoding import load_tokenizer
from llmtrain_trainer.data.formats.rendering import plain_texts
from llmtrain_trainer.data.sources.dataset import Row
from llmtrain_trainer.run_dir.notices import told

ROW = {"instruction": "Translate to French.", "input": "cheese", "output": "fromage"}
PLAIN = {"instruction": "What is two and two?", "output": "Four."}
PROMPT = """Below is an instruction that describes a task, paired with an input that provides further context. \
Write a response that appropriately completes the request.

### Instruction:
Translate to French.

### Input:
cheese

### Response:
"""


def both(template: str | None, row: dict[str, Any], **dataset: Any) -> tuple[str, str]:
    return kinds.learned_and_ignored(template, row, format="alpaca", **dataset)


def messages(*turns: str) -> dict[str, Any]:
    return {"messages": [{"role": "assistant" if i % 2 else "user", "content": text} for i, text in enumerate(turns)]}


def test_the_chat_template_writes_instruction_and_input_as_the_question() -> None:
    for template in (kinds.CHATML, kinds.HYBRID, kinds.BRACKETS):
        same = kinds.learned_and_ignored(template, messages("Translate to French.\ncheese", "fromage"))
        assert both(template, ROW) == same
        assert both(template, {**ROW, "input": ""}) == kinds.learned_and_ignored(template, messages("Translate to French.", "fromage"))


def test_history_is_learned_too_and_the_system_comes_first() -> None:
    row = {**PLAIN, "history": [["Hello?", "Hello."], ["And?", "Two."]], "system": "Be brief."}
    given = messages("Hello?", "Hello.", "And?", "Two.", PLAIN["instruction"], "Four.")["messages"]
    same = kinds.learned_and_ignored(kinds.CHATML, {"messages": [{"role": "system", "content": "Be brief."}, *given]})
    assert both(kinds.CHATML, row) == same
    assert both(kinds.CHATML, {**row, "history": json.dumps(row["history"])}) == same
    assert same[0] == "Hello.<|im_end|>Two.<|im_end|>Four.<|im_end|>"


def test_without_a_chat_template_it_is_the_prompt_of_alpaca_and_its_answer() -> None:
    learned, ignored = both(ALPACA_TEMPLATE, ROW)
    assert (learned, ignored) == ("fromage<|end|>", PROMPT)
    assert "### Input" not in both(ALPACA_TEMPLATE, PLAIN)[1]
    assert both(ALPACA_TEMPLATE, PLAIN)[1].startswith("Below is an instruction that describes a task. Write a response")
    assert both(ALPACA_TEMPLATE, {**ROW, "system": "Be brief."})[1].startswith("Be brief.\n\n### Instruction:\nTranslate")
    assert both(ALPACA_TEMPLATE, {**ROW, "history": [["Hello?", "Hello."]]})[0] == "Hello.<|end|>fromage<|end|>"


def test_control_tokens_in_an_input_stay_letters_in_the_prompt_of_alpaca_too() -> None:
    made, document = kinds.encode(ALPACA_TEMPLATE, {**ROW, "input": "a <|end|> b"}, format="alpaca")
    assert document.ids.tolist().count(made.eos_token_id) == 1
    assert document.found["control tokens:<|end|>"] == 1


@pytest.mark.parametrize(("template", "tells"), [(None, True), (kinds.CHATML, False)], ids=["none", "chatml"])
def test_the_template_that_is_taken_for_want_of_one_is_told_and_is_the_exported_tokenizers(
    job: Job, template: str | None, tells: bool
) -> None:
    kinds.tokenizer(template).save_pretrained(job.root / "tok")
    dataset = [{"source": job.rows_file("a.jsonl", [ROW] * 120), "format": "alpaca"}]
    settings = {"tokenizer": {"source": f"file://{job.root / 'tok'}"}, "training": {"sequenceLength": 256}}
    job.prepare(config_of(dataset, task="sft", **settings))
    assert any("120 conversations are written as Alpaca's prompt" in line for line in told(job.run)) is tells
    exported = load_tokenizer(job.run.prepared / "tokenizer")
    question = [{"role": "user", "content": ROW["instruction"], "input": ROW["input"]}]
    asked = exported.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
    assert (asked == PROMPT) is tells


def test_a_tokenizer_is_trained_on_all_that_a_row_says() -> None:
    dataset = Dataset.model_validate({"source": "file:///x", "format": "alpaca"})
    assert plain_texts("d", dataset, Row("f row 1", ROW)) == ["Translate to French.\ncheese", "fromage"]


REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({**ROW, "input": ["a"]}, {}, "column input is a list, not text"),
    ({**ROW, "instruction": 3}, {}, "column instruction is a number, not text"),
    ({**ROW, "history": [["Hello?"]]}, {}, "history[1] is a list, not a question and its answer. Write history as a list of pairs"),
    ({**ROW, "history": "Hello"}, {}, "history[1] is text, not a question and its answer"),
    ({**ROW, "system": 3}, {}, "column system is a number, not text"),
    ({**ROW, "context": "x"}, {}, "Write its text into column input, or name it in dataset[0].ignoreColumns"),
    ({**ROW, "images": ["a.png"]}, {}, "column images holds something other than text"),
    ({"prompt": "a", "completion": "b"}, {}, "Set dataset[0].format to promptCompletion"),
    ({"question": "a", "answer": "b"}, {}, "Set dataset[0].columns.instruction to question and dataset[0].columns.output to answer"),
    (ROW, {"format": "messages"}, "which format messages does not read. Set dataset[0].format to alpaca"),
    (PLAIN, {"format": "text"}, "Set dataset[0].format to alpaca"),
]


@pytest.mark.parametrize(("row", "dataset", "message"), REFUSED, ids=[message[:50] for *_, message in REFUSED])
def test_what_cannot_be_trained_on_is_refused_with_row_and_way_out(row: dict[str, Any], dataset: dict[str, Any], message: str) -> None:
    with pytest.raises(BadData) as raised:
        kinds.encode(kinds.CHATML, row, **{"format": "alpaca", **dataset})
    assert message in str(raised.value)
    assert "f row 1" in str(raised.value)


def test_own_names_of_columns_are_read() -> None:
    columns = {"instruction": "question", "input": "context", "output": "answer"}
    row = {"question": ROW["instruction"], "context": ROW["input"], "answer": ROW["output"]}
    assert both(kinds.CHATML, row, columns=columns) == both(kinds.CHATML, ROW)
