"""Splits and their slices, lines of text files, Arrow directories, SQuAD's files: which rows are read of each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import chat_kinds as kinds
import pyarrow as pa
import pyarrow.parquet
import pytest
from small_job import Job, config_of, sentence

from llmtrain_trainer.config import Dataset
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.sources.dataset import Row, dataset_files, read_rows
from llmtrain_trainer.data.sources.squad import questions_of
from llmtrain_trainer.run_dir.notices import told

TEXTS = [f"row {i}" for i in range(40)]


def put(path: Path, content: str | bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return f"file://{path}"


def texts(source: str | Path, **given: Any) -> list[str]:
    dataset = Dataset.model_validate({"source": source if isinstance(source, str) else f"file://{source}", **given})
    return [row.values["text"] for row in read_rows("dataset[0]", dataset, dataset_files("dataset[0]", dataset))]


def rows(path: Path, some: list[str] = TEXTS) -> str:
    return put(path, "".join(json.dumps({"text": text}) + "\n" for text in some))


SLICES = {"[10:20]": slice(10, 20), "[:5%]": slice(0, 2), "[95%:]": slice(38, 40), "[-5:]": slice(-5, None), "[:-30]": slice(0, 10)}
SLICES |= {"[33%:66%]": slice(13, 26), "[5:5000]": slice(5, None), "[-5000:3]": slice(0, 3), "[:]": slice(None), "": slice(None)}


@pytest.mark.parametrize("part", SLICES)
def test_a_slice_takes_the_rows_that_the_datasets_library_takes(tmp_path: Path, part: str) -> None:
    one = rows(tmp_path / "a.jsonl")
    rows(tmp_path / "shards/0.jsonl", TEXTS[:15])
    rows(tmp_path / "shards/1.jsonl", TEXTS[15:])
    assert texts(one, split=f"train{part}") == TEXTS[SLICES[part]]
    assert texts(tmp_path / "shards", split=f"train{part}") == TEXTS[SLICES[part]]


def test_maximum_samples_count_within_the_slice(tmp_path: Path) -> None:
    assert texts(rows(tmp_path / "a.jsonl"), split="train[10:20]", maxSamples=3) == TEXTS[10:13]


def test_a_slice_without_rows_is_refused_and_one_that_ends_behind_them_is_told(job: Job) -> None:
    source = job.text_file(count=60)
    with pytest.raises(BadData, match=r"split is train\[60:70\]: it selects none of the 60 rows"):
        job.prepare(config_of([{"source": source, "split": "train[60:70]"}]))
    assert job.prepare(config_of([{"source": source, "split": "train[10:70]"}])).datasets[0].train.documents == 50
    assert "dataset[0]: split train[10:70] ends after the last of 60 rows." in told(job.run)


def test_two_slices_of_one_file_share_no_rows_and_no_cache(job: Job) -> None:
    source = job.text_file(count=60)
    both = [{"source": source, "split": "train[:30]"}, {"source": source, "split": "train[50%:]"}]
    first, second = job.prepare(config_of(both)).datasets
    assert (first.train.documents, second.train.documents) == (30, 30)
    assert first.train.digest != second.train.digest


def test_a_local_directory_has_the_splits_that_its_files_are_named_after(tmp_path: Path) -> None:
    rows(tmp_path / "d/train.jsonl", ["a"])
    rows(tmp_path / "d/test-00000-of-00001.jsonl", ["b", "c"])
    assert texts(tmp_path / "d", split="test") == ["b", "c"]
    assert texts(tmp_path / "d", split="test[1:]") == ["c"]
    with pytest.raises(BadData, match=r"split is dev: no file of file://.* is named after it"):
        texts(tmp_path / "d", split="dev")


def test_each_line_of_a_text_file_is_a_document(tmp_path: Path) -> None:
    assert texts(put(tmp_path / "a.txt", "\ufeffone\n\n two \r\nthree"), format="lines") == ["one", " two ", "three"]
    assert texts(put(tmp_path / "a.txt", "one\ntwo\nthree"), format="lines", split="train[1:2]") == ["two"]


def test_lines_of_files_with_rows_are_refused_with_a_way_out_that_works(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"format is lines: a.jsonl holds rows, not lines of text. Set format to text"):
        texts(rows(tmp_path / "a.jsonl"), format="lines")
    with pytest.raises(BadData, match=r"End its name in .jsonl"):
        texts(put(tmp_path / "b.txt", '{"text": "a"}\n'), format="lines")


@pytest.mark.parametrize("task", ["pretrain", "sft"])
def test_lines_are_trained_on_each_with_an_end_token(job: Job, task: str) -> None:
    source = put(job.root / "a.txt", "".join(sentence(i) for i in range(60)))
    stats = job.prepare(config_of([{"source": source, "format": "lines"}], task=task)).datasets[0].train
    assert stats.documents == 60
    assert len(stats.ends) == 1


def arrow(path: Path, some: list[dict[str, Any]], *, file_format: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(some)
    writer = pa.ipc.new_file if file_format else pa.ipc.new_stream
    with pa.OSFile(str(path), "wb") as sink, writer(sink, table.schema) as out:
        out.write_table(table, max_chunksize=7)


@pytest.mark.parametrize("file_format", [False, True])
def test_a_directory_that_the_datasets_library_saved_is_read_with_its_splits(tmp_path: Path, file_format: bool) -> None:
    for split, some in (("train", TEXTS[:30]), ("test", TEXTS[30:])):
        arrow(
            tmp_path / split / "data-00000-of-00001.arrow",
            [{"text": text, "id": i} for i, text in enumerate(some)],
            file_format=file_format,
        )
        put(tmp_path / split / "state.json", '{"_data_files": []}')
        put(tmp_path / split / "dataset_info.json", "{}")
    put(tmp_path / "dataset_dict.json", '{"splits": ["train", "test"]}')
    assert texts(tmp_path / "train") == TEXTS[:30]
    assert texts(tmp_path, split="test[2:4]") == TEXTS[32:34]


QUESTIONS = [{"id": "1", "question": "Where?", "answers": [{"text": "Oslo", "answer_start": 0}, {"text": "in Oslo", "answer_start": 0}]}]
NONE = {"id": "2", "question": "Why?", "answers": [], "is_impossible": True}
SQUAD = {"version": "1", "data": [{"title": "t", "paragraphs": [{"context": "Oslo is rainy.", "qas": [*QUESTIONS, NONE, *QUESTIONS]}]}]}
FLAT = {"title": "t", "context": "Oslo is rainy.", "question": "Where?", "answers": {"text": ["Oslo"], "answer_start": [0]}}


def test_questions_of_squad_are_found_below_its_articles_and_those_without_an_answer_are_counted(job: Job) -> None:
    kinds.tokenizer(kinds.CHATML).save_pretrained(job.root / "tok")
    settings: dict[str, Any] = {"task": "sft", "tokenizer": {"source": f"file://{job.root / 'tok'}"}, "training": {"sequenceLength": 64}}
    nested = put(job.root / "a.json", json.dumps({**SQUAD, "data": SQUAD["data"] * 9}))
    found = job.prepare(config_of([{"source": nested, "format": "squad"}], **settings)).datasets[0].train
    assert found.documents == 18
    notice = "dataset[0]: 9 of 27 questions have no answer and were left out; dataset[0].noAnswer would be learned for them."
    assert notice in told(job.run)
    assert not any("not read" in line for line in told(job.run))
    flat = put(job.root / "b.jsonl", (json.dumps(FLAT) + "\n") * 18)
    assert job.prepare(config_of([{"source": flat, "format": "squad"}], **settings)).datasets[0].train.digest == found.digest


HARD = {**SQUAD, "data": [{"title": "t", "paragraphs": [{"context": "Oslo is rainy.", "qas": [*QUESTIONS, *[NONE] * 3]}]}] * 9}
FLAT_NONE = {**FLAT, "question": "Why?", "answers": {"text": [], "answer_start": []}}


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.parquet"])
def test_squad_2_is_read_though_most_questions_have_no_answer_and_they_can_be_learned(job: Job, name: str) -> None:
    kinds.tokenizer(kinds.CHATML).save_pretrained(job.root / "tok")
    settings: dict[str, Any] = {"task": "sft", "tokenizer": {"source": f"file://{job.root / 'tok'}"}, "training": {"sequenceLength": 64}}
    flat = [FLAT, *[FLAT_NONE] * 3] * 9
    if name == "a.parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(flat), job.root / name)
        source = f"file://{job.root / name}"
    else:
        source = put(job.root / name, json.dumps(HARD) if name == "a.json" else "".join(json.dumps(row) + "\n" for row in flat))
    given = {"source": source, "format": "squad"}
    assert job.prepare(config_of([given], **settings)).datasets[0].train.documents == 9
    assert any("27 of 36 questions have no answer" in line for line in told(job.run))
    assert job.prepare(config_of([{**given, "noAnswer": "There is none."}], **settings)).datasets[0].train.documents == 36
    with pytest.raises(BadData, match=r"none of 27 questions of .* has an answer\. Set dataset\[0\]\.noAnswer to what is learned"):
        job.prepare(config_of([{**given, "where": "question == 'Why?'"}], **settings))


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
@pytest.mark.parametrize("answers", [{"answers": None}, {"answers": {"text": None}}, {}], ids=["null", "null texts", "left out"])
def test_a_question_that_is_impossible_has_no_answer_though_its_answers_are_null(job: Job, answers: dict[str, Any], name: str) -> None:
    kinds.tokenizer(kinds.CHATML).save_pretrained(job.root / "tok")
    settings: dict[str, Any] = {"task": "sft", "tokenizer": {"source": f"file://{job.root / 'tok'}"}, "training": {"sequenceLength": 64}}
    question = {key: value for key, value in FLAT.items() if key != "answers"}
    flat = [{**FLAT, "is_impossible": False}, *[{**question, **answers, "is_impossible": True}] * 3] * 9
    if name == "a.parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(flat), job.root / name)
    else:
        put(job.root / name, "".join(json.dumps(row) + "\n" for row in flat))
    given = {"source": f"file://{job.root / name}", "format": "squad"}
    assert job.prepare(config_of([given], **settings)).datasets[0].train.documents == 9
    assert any("27 of 36 questions have no answer" in line for line in told(job.run))
    assert job.prepare(config_of([{**given, "noAnswer": "There is none."}], **settings)).datasets[0].train.documents == 36


def test_what_is_learned_of_a_question_without_an_answer_is_what_the_manifest_says() -> None:
    dataset = Dataset.model_validate({"source": "file:///x", "format": "squad", "noAnswer": "None."})
    asked = [row.values for row in questions_of(Row("f row 1", SQUAD), dataset)]
    assert [row["answers"] for row in asked] == [["Oslo", "in Oslo"], ["None."], ["Oslo", "in Oslo"]]


def test_answers_that_are_null_or_missing_are_still_no_data(job: Job) -> None:
    rows = [{**FLAT, "answers": None}] * 9 + [FLAT] * 3
    with pytest.raises(BadData, match="9 of 12 rows"):
        job.prepare(config_of([{"source": job.rows_file("a.jsonl", rows), "format": "squad"}], task="sft"))


def test_the_context_and_the_question_ask_and_the_first_answer_is_learned() -> None:
    row = {"context": "Oslo is rainy.", "question": "Where?", "answers": ["Oslo", "in Oslo"]}
    learned, ignored = kinds.learned_and_ignored(kinds.CHATML, row, format="squad")
    assert learned == "Oslo<|im_end|>"
    assert "Oslo is rainy.\n\nWhere?" in ignored
    with pytest.raises(BadData, match="column answers is a number, not the answers as SQuAD writes them"):
        kinds.encode(kinds.CHATML, {**row, "answers": 3}, format="squad")
