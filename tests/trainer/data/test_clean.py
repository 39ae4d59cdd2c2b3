"""`clean` of a dataset: duplicates and lengths that are left out, counted and told."""

from __future__ import annotations

from typing import Any

import pytest
from small_job import Job, config_of, sentence

from llmtrain_trainer.config import Dataset
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.sources.cleaning import Cleaner
from llmtrain_trainer.data.sources.readers import Row
from llmtrain_trainer.data.sources.reading import Reading
from llmtrain_trainer.run_dir.notices import told


def test_rows_that_say_the_same_as_an_earlier_one_are_left_out_and_counted(job: Job) -> None:
    rows = [{"text": sentence(i % 50), "id": i} for i in range(80)]
    source = job.rows_file("a.jsonl", rows)
    assert job.prepare(config_of([{"source": source}])).datasets[0].train.documents == 80
    once = job.prepare(config_of([{"source": source, "clean": {"duplicates": "exact"}}])).datasets[0].train
    assert once.documents == 50
    assert once.digest == job.prepare(config_of([{"source": job.text_file("b.jsonl", 50)}])).datasets[0].train.digest
    job.prepare(config_of([{"source": source, "clean": {"duplicates": "exact"}}]))
    assert any("30 of 80 rows say the same as an earlier one and were left out" in line for line in told(job.run))


def test_the_same_question_with_another_answer_is_no_duplicate(job: Job) -> None:
    rows = [{"prompt": "q", "completion": f" a{i % 20}"} for i in range(40)]
    given = {"source": job.rows_file("a.jsonl", rows), "format": "promptCompletion", "clean": {"duplicates": "exact"}}
    found = job.prepare(config_of([given], task="sft", training={"packing": False})).datasets[0].train
    assert found.documents == 20


@pytest.mark.parametrize("column", ["tools", "functions", "documents", "chat_template_kwargs"])
def test_conversations_with_other_tools_or_documents_are_no_duplicates(column: str) -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    dataset = Dataset.model_validate({"source": "file:///x", "format": "messages", "clean": {"duplicates": "exact"}})
    cleaner = Cleaner(dataset, counted := Reading())
    given: list[Any] = [None, [{"name": "one"}], [{"name": "two"}], [{"name": "one"}]]
    assert [cleaner.keep(Row("f", {"messages": turns, column: each})) for each in given] == [True, True, True, False]
    assert (cleaner.keep(Row("f", {"messages": turns})), counted.duplicates) == (False, 2)


def test_texts_that_are_too_short_or_too_long_are_left_out_and_counted(job: Job) -> None:
    rows = [{"text": "short"}, *({"text": sentence(i)} for i in range(60)), {"text": "long " * 1000}]
    given = {"source": job.rows_file("a.jsonl", rows), "clean": {"minCharacters": 6, "maxCharacters": 4000}}
    assert job.prepare(config_of([given])).datasets[0].train.documents == 60
    assert "dataset[0]: 2 of 62 rows are shorter or longer than dataset[0].clean allows and were left out." in told(job.run)


@pytest.mark.parametrize("name", ["minCharacters", "maxCharacters"])
def test_ids_have_no_characters_that_could_be_limited(job: Job, name: str) -> None:
    given = {"source": job.rows_file("a.jsonl", [{"input_ids": [5]}]), "format": "tokens", "clean": {name: 5}}
    with pytest.raises(BadData, match=rf"dataset\[0\].clean.{name} is 5: format tokens has ids and no characters. Leave {name} out"):
        job.prepare(config_of([given]))


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("text", {"text": 12}),
    ("text", {"text": {"said": "x"}}),
    ("text", {"text": ["a", "b"]}),
    ("text", {"text": b"x"}),
    ("messages", {"messages": ["a", "b"]}),
    ("messages", {"messages": {"role": "user"}}),
    ("messages", {"messages": "hello"}),
    ("sharegpt", {"conversations": 3}),
    ("promptCompletion", {"prompt": "q", "completion": 3}),
    ("promptCompletion", {"prompt": ["q"], "completion": "a"}),
    ("alpaca", {"instruction": 3, "output": "x"}),
    ("squad", {"context": "c", "question": "q", "answers": 3}),
    ("textLabel", {"text": 3, "label": 1}),
]


@pytest.mark.parametrize(("form", "values"), WRONG, ids=[f"{form} {values}" for form, values in WRONG])
def test_rows_of_another_form_are_left_to_the_format_and_not_counted_as_short_or_repeated(form: str, values: dict[str, Any]) -> None:
    clean = {"duplicates": "exact", "minCharacters": 100}
    cleaner = Cleaner(Dataset.model_validate({"source": "file:///x", "format": form, "clean": clean}), counted := Reading())
    assert [cleaner.keep(Row("f", values)) for _ in range(2)] == [True, True]
    assert (counted.unfit, counted.duplicates) == (0, 0)


RIGHT: list[tuple[str, dict[str, Any]]] = [
    ("text", {"text": "x"}),
    ("messages", {"messages": [{"role": "user", "content": "x"}]}),
    ("messages", {"messages": ' [{"role": "user", "content": "x"}]'}),
    ("promptCompletion", {"prompt": [{"role": "user", "content": "x"}], "completion": [{"role": "assistant", "content": "x"}]}),
    ("squad", {"context": "c", "question": "q", "answers": ["x"]}),
    ("textLabel", {"text": "x", "label": 1}),
]


@pytest.mark.parametrize(("form", "values"), RIGHT, ids=[f"{form} {values}" for form, values in RIGHT])
def test_rows_of_the_right_form_are_counted_in_each_format(form: str, values: dict[str, Any]) -> None:
    cleaner = Cleaner(
        Dataset.model_validate({"source": "file:///x", "format": form, "clean": {"minCharacters": 100}}), counted := Reading()
    )
    assert (cleaner.keep(Row("f", values)), counted.unfit) == (False, 1)


def test_rows_of_a_wrong_type_are_told_as_bad_though_clean_would_leave_out_what_is_short(job: Job) -> None:
    rows = [*({"text": sentence(i)} for i in range(30)), *({"text": i} for i in range(3))]
    given = {"source": job.rows_file("a.jsonl", rows), "badRows": "skip", "clean": {"minCharacters": 5}}
    job.prepare(config_of([given]))
    assert any("3 of 33 rows cannot be read or trained on" in line for line in told(job.run))
    with pytest.raises(BadData, match=r"row 31: column text is a number, not text"):
        job.prepare(config_of([{**given, "badRows": "stop"}]))


def test_the_text_of_a_conversation_counts_without_its_keys(job: Job) -> None:
    turns = [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "cd"}]
    given = {"source": job.rows_file("a.jsonl", [{"messages": turns}] * 9), "format": "messages", "clean": {"minCharacters": 18}}
    with pytest.raises(BadData, match=r"dataset\[0\].clean is .*: none of 9 rows of .* has so many characters"):
        job.prepare(config_of([given], task="sft"))
