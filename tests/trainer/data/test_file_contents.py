"""What is said of files that cannot be used as they are: the cause, and a way out that works."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from typing import Any

import chat_kinds as kinds
import pyarrow as pa
import pyarrow.parquet
import pytest
from small_job import Job, config_of, sentence

from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.rows import SetStats
from llmtrain_trainer.prepare.told import sentences
from llmtrain_trainer.run_dir.notices import told

ROWS = [{"text": sentence(i)} for i in range(60)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


def put(job: Job, name: str, content: str) -> str:
    path = job.root / "files" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return f"file://{path}"


def refusal(job: Job, config: TrainerConfig) -> str:
    with pytest.raises(BadData) as raised:
        job.prepare(config)
    return str(raised.value)


def separated(separator: str, text: str = "a; b, c\td|e") -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=separator).writerows([["id", "text"], *([i, f"{text} {row['text'].strip()}"] for i, row in enumerate(ROWS))])
    return out.getvalue()


PAIRS = "prompt,completion\n" + "".join(f"q{i},a{i}\n" for i in range(30))
UNREADABLE: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "empty.jsonl": ("empty.jsonl", "", {}, "there is no row in it: the file is empty. Name files that hold data."),
    "blank.jsonl": ("blank.jsonl", "\n \n", {}, "there is no row in it: the file is empty"),
    "no rows.json": ("list.json", "[]", {}, "there is no row in it: the file is empty"),
    "header.csv": ("header.csv", "text\n", {}, "there is no row in it: the file is empty"),
    "empty.txt": ("empty.txt", " \n", {}, "1 of 1 text files are empty (the first: file://"),
    "empty rows": ("a.jsonl", '{"text": " "}\n' * 4, {}, "text is null or empty in 4 of 4 rows"),
    "data": (
        "a.json",
        json.dumps({"data": ROWS, "version": 1}),
        {},
        "one object that holds the rows under data, not a row. Set dataset[0].field to data",
    ),
    "train": ("a.jsonl", json.dumps({"train": ROWS}), {}, "one object that holds the rows under train, not a row"),
    "columns": ("a.json", json.dumps({"text": ["a", "b"]}), {}, "column text is a list, not text. Write a row for each text of the list"),
    "list in jsonl": ("a.jsonl", json.dumps(ROWS), {}, "row 1: it is a list, not an object. Write objects such as"),
    "json in jsonl": ("a.jsonl", json.dumps(ROWS, indent=1), {}, "or end the file's name in .json if it is one list"),
    "semicolons": ("a.csv", separated(";"), {}, "its columns are separated by ;, and it is read with commas"),
    "tabs": ("a.csv", separated("\t"), {}, "its columns are separated by tabs"),
    "bars": ("a.csv", separated("|"), {}, "its columns are separated by |"),
    "quoted": ("a.csv", '"id";"text"\n"1";"x"\n', {}, "its columns are separated by ;, and it is read"),
    "keyed": ("a.json", json.dumps({str(i): row for i, row in enumerate(ROWS)}), {}, "holds each row under a key of its own"),
    "pandas": ("a.json", json.dumps({"text": {"0": "a"}}), {}, "Write an object for each row (pandas: orient='records')"),
    "no header": ("a.csv", "".join(f"{i},some text\n" for i in range(30)), {}, "its first line names no columns (found 0,some text)"),
    "almost": ("a.csv", "id, Text\n1,x\n", {}, '(found " Text", id). Set dataset[0].columns.text to " Text", if it holds it.'),
    "renamed": (
        "a.jsonl",
        '{"question": "q", "answer": "a"}\n',
        {"format": "promptCompletion"},
        "Set dataset[0].columns.prompt to question and dataset[0].columns.completion to answer, if they hold them.",
    ),
    "unknown": ("a.jsonl", '{"x": "q", "y": "a"}\n', {}, "(found x, y). Set dataset[0].columns.text to the column that holds it."),
    "pairs as messages": ("a.csv", PAIRS, {"format": "messages"}, "Set dataset[0].format to promptCompletion."),
    "messages as text": ("a.jsonl", '{"messages": [{"role": "user", "content": "q"}]}\n', {}, "Set dataset[0].format to messages."),
    "single messages": (
        "a.json",
        '[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]',
        {"format": "messages"},
        'it is a single message, not a row with a conversation. Write each conversation as {"messages": [...]} around its messages.',
    ),
    "text before messages": (
        "a.jsonl",
        '{"prompt": "q", "completion": [{"role": "assistant", "content": "a"}]}\n',
        {"format": "promptCompletion"},
        "column completion is a list, not text. Write prompt and completion both as text, or both as lists of {role, content}.",
    ),
    "rows in a text file": (
        "part-00000",
        LINES,
        {},
        "its first line is a row with column text, and a file of this name is read as one text",
    ),
    "rows in a .txt": ("a.txt", "\n" + LINES, {}, "End its name in .jsonl."),
    "binary text": ("a.txt", "GIF89a\0\1 and so on", {}, "it is binary (it has NUL characters), not text"),
    "pointer": (
        "a.txt",
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        {},
        "it is a pointer of Git LFS, not the file itself",
    ),
    "pointer of rows": ("a.jsonl", "version https://git-lfs.github.com/spec/v1\n", {}, "Fetch the file, such as with git lfs pull."),
    "pointer of a table": ("a.parquet", "version https://git-lfs.github.com/spec/v1\n", {}, "Fetch the file, such as with git lfs pull."),
    "pointer of an Arrow table": ("a.arrow", "version https://git-lfs.github.com/spec/v1\n", {}, "a pointer of Git LFS"),
    "web page": ("a.jsonl", "<!DOCTYPE html><html></html>", {}, "It looks like a web page or a store's error message in place of the"),
    "store's answer": (
        "a.json",
        "<?xml version='1.0'?><Error/>",
        {},
        "(Expecting value at column 1). It looks like a web page or a store's",
    ),
    "web page for a table": ("a.parquet", "\n<html>", {}, "it is no table. It looks like a web page"),
    "JSON lines for a table": ("a.parquet", LINES, {}, "it is not a parquet file that can be read"),
    "not packed": ("a.jsonl.gz", LINES, {}, "remove .gz from its name if it is not packed"),
    "python in csv": (
        "a.csv",
        "messages\n\"[{'role': 'user'}]\"\n",
        {"format": "messages"},
        "column messages is text, but not JSON. Write",
    ),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_data_in_another_form_is_told_its_form_and_the_way_out(job: Job, name: str) -> None:
    file, content, settings, message = UNREADABLE[name]
    config = config_of([{"source": put(job, file, content), **settings}], task="sft" if settings else "pretrain")
    if config.task == "sft":  # the tokenizer is trained on the same rows, and would be the first to meet them
        kinds.tokenizer(kinds.CHATML).save_pretrained(job.root / "tok")
        config = config.model_copy(update={"tokenizer": config.tokenizer.model_validate({"source": f"file://{job.root / 'tok'}"})})  # type: ignore[union-attr]
    said = refusal(job, config)
    assert message in said
    assert "sequenceLength" not in said


OTHER_KINDS: dict[str, tuple[Callable[[bytes], bytes], str, str]] = {
    "gzip": (gzip.compress, "a.jsonl.gz", "what is in a.jsonl is packed with gzip. End its name in .gz, such as a.jsonl.gz."),
    "zstd": (lambda data: bytes(pa.Codec("zstd").compress(data, asbytes=True)), "a.jsonl.zst", "packed with zstd. End its name in .zst"),
    "parquet": (
        lambda _: parquet({"text": [row["text"] for row in ROWS]}),
        "a.parquet",
        "a.jsonl is a parquet file. End its name in .parq",
    ),
}


def parquet(columns: dict[str, list[Any]] | pa.Table) -> bytes:
    out = io.BytesIO()
    pyarrow.parquet.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), out)
    return out.getvalue()


@pytest.mark.parametrize("name", OTHER_KINDS)
def test_a_file_of_another_kind_than_its_name_says_is_read_once_it_has_the_name_of_the_message(job: Job, name: str) -> None:
    make, right, message = OTHER_KINDS[name]
    path = job.root / "a.jsonl"
    path.write_bytes(make(LINES.encode()))
    assert message in refusal(job, config_of([{"source": f"file://{path}"}]))
    path.rename(job.root / right)
    assert job.prepare(config_of([{"source": f"file://{job.root / right}"}])).datasets[0].train.documents == 60


def test_of_two_columns_of_one_name_in_a_parquet_file_none_is_taken(job: Job) -> None:
    path = job.root / "a.parquet"
    path.write_bytes(parquet(pa.table([pa.array(["a"] * 9), pa.array(["b"] * 9)], names=["text", "text"])))
    assert "its schema names column text twice. Give each column a name of its own." in refusal(
        job, config_of([{"source": f"file://{path}"}])
    )
    path.write_bytes(parquet({"text": [b"a"] * 9}))
    assert "column text is binary data, not text. Write the column as strings" in refusal(job, config_of([{"source": f"file://{path}"}]))


def test_marks_of_a_missing_value_in_a_csv_file_are_told_of_and_the_index_of_pandas_is_not(job: Job) -> None:
    lines = "".join(f"{i},{'NaN' if i < 3 else row['text'].strip()}\n" for i, row in enumerate(ROWS))
    job.prepare(config_of([{"source": put(job, "a.csv", ",text\n" + lines)}]))
    (said,) = [line for line in told(job.run) if not line.startswith("The data has")]
    assert said.startswith("dataset[0]: 3 rows of CSV files have only NaN in a column, which is trained on as that text")


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_the_separator_that_the_refusal_names_is_read(job: Job, separator: str) -> None:
    source = put(job, "a.csv", separated(separator))
    assert f"Set dataset[0].csv.separator to {json.dumps(separator)}." in refusal(job, config_of([{"source": source}]))
    rows = job.prepare(config_of([{"source": source, "csv": {"separator": separator}}])).datasets[0].train
    assert rows.digest == job.prepare(config_of([{"source": put(job, "b.csv", separated(","))}])).datasets[0].train.digest


def test_a_tsv_file_has_tabs_and_a_header_may_be_given(job: Job) -> None:
    rows = job.prepare(config_of([{"source": put(job, "a.tsv", separated("\t"))}])).datasets[0].train
    without = separated("\t").partition("\n")[2]
    given = {"csv": {"header": ["id", "text"]}}
    assert rows.digest == job.prepare(config_of([{"source": put(job, "b.tsv", without), **given}])).datasets[0].train.digest
    assert "Name all columns in dataset[0].csv.header" in refusal(job, config_of([{"source": put(job, "b.tsv", without)}]))
    repeated = refusal(job, config_of([{"source": put(job, "a.tsv", separated("\t")), **given}]))
    assert "its first line names the columns, and dataset[0].csv.header does too. Leave dataset[0].csv.header out" in repeated
    assert "separated by commas, and it is read with tabs" in refusal(job, config_of([{"source": put(job, "c.tsv", separated(",", "a"))}]))


def test_settings_of_csv_that_no_file_reads_are_refused(job: Job) -> None:
    said = refusal(job, config_of([{"source": put(job, "a.jsonl", LINES), "csv": {"separator": ";"}}]))
    assert "dataset[0].csv is set: no file of" in said


def test_a_wrapped_list_is_read_once_its_key_is_named_or_it_is_written_alone(job: Job) -> None:
    wrapped = put(job, "a.json", json.dumps({"data": ROWS}))
    assert "Set dataset[0].field to data." in refusal(job, config_of([{"source": wrapped}]))
    assert job.prepare(config_of([{"source": wrapped, "field": "data"}])).datasets[0].train.documents == len(ROWS)
    assert "field is rows: " in refusal(job, config_of([{"source": wrapped, "field": "rows"}]))
    lines = put(job, "a.jsonl", json.dumps({"data": ROWS}))
    assert "jq '.data' old.json > new.json" in refusal(job, config_of([{"source": lines}]))
    assert "is a .json file. Leave field out" in refusal(job, config_of([{"source": lines, "field": "data"}]))
    assert job.prepare(config_of([{"source": put(job, "b.json", json.dumps(ROWS))}])).train_samples > 0


@pytest.mark.parametrize("name", ["meta.json", "config.json", "zz/package.json", "0.json"])
def test_an_object_beside_data_that_is_no_row_is_passed_over_and_named(job: Job, name: str) -> None:
    put(job, "a.jsonl", LINES)
    put(job, name, '{"name": "x", "rows": 60, "splits": ["train"]}')
    assert job.prepare(config_of([{"source": f"file://{job.root}/files"}])).datasets[0].train.documents == 60
    assert any(f"{name} holds none of the columns that are read and was passed over" in line for line in told(job.run))
    assert not any("empty" in line for line in told(job.run))


def test_what_may_be_rows_beside_data_is_never_passed_over(job: Job) -> None:
    put(job, "a.jsonl", LINES)
    source = [{"source": f"file://{job.root}/files"}]
    put(job, "b.json", json.dumps({"data": ROWS}))
    assert "b.json row 1: it is one object that holds the rows under data" in refusal(job, config_of(source))
    put(job, "b.json", json.dumps([{"other": "x"}, {"other": "y"}]))
    assert "b.json row 1 (found other)" in refusal(job, config_of(source))
    (job.root / "files" / "b.json").unlink()
    put(job, "stats.csv", "name,n\nx,3\n")
    assert "or leave this file out with a glob, such as *.jsonl" in refusal(job, config_of(source))
    assert job.prepare(config_of([{"source": f"file://{job.root}/files/*.jsonl"}])).train_samples > 0


def test_a_directory_of_objects_alone_in_another_form_is_refused_with_what_was_found(job: Job) -> None:
    for i in range(3):
        put(job, f"{i}.json", '{"body": "x"}')
    assert "0.json row 1 (found body). Set dataset[0].columns.text to body" in refusal(
        job, config_of([{"source": f"file://{job.root}/files"}])
    )


def test_a_text_beside_files_with_rows_is_read_and_named(job: Job) -> None:
    put(job, "a.jsonl", LINES)
    put(job, "requirements.txt", "torch\n")
    job.prepare(config_of([{"source": f"file://{job.root}/files"}]))
    assert any("requirements.txt in file://" in line and "is read as text beside files with rows" in line for line in told(job.run))


def test_a_column_of_objects_is_no_wrapper_and_odd_keys_are_quoted(job: Job) -> None:
    row = {"question": "q", "choices": [{"label": "A"}]}
    assert "(found choices, question)" in refusal(job, config_of([{"source": put(job, "a.jsonl", json.dumps(row))}]))
    said = refusal(job, config_of([{"source": put(job, "b.jsonl", json.dumps({"my rows": ROWS}))}]))
    assert "jq '.[\"my rows\"]' old.json" in said


def test_the_mark_of_a_spreadsheet_is_told_and_what_is_told_then_works(job: Job) -> None:
    assert "its first line is sep=;, which spreadsheets write there" in refusal(
        job, config_of([{"source": put(job, "a.csv", "sep=;\n" + separated(";"))}])
    )
    assert job.prepare(config_of([{"source": put(job, "b.csv", separated(","))}])).train_samples > 0


@pytest.mark.parametrize(("tokens", "is_told"), [(1001, False), (1050, False), (1080, True)])
def test_tokens_that_fill_no_row_are_told_of_where_they_are_many(tokens: int, is_told: bool) -> None:
    stats = SetStats(form="stream", rows=10, length=100, tokens=tokens, targets=1000, documents=3)
    assert any("the last 79 of 1080 tokens fill no row of 100" in line for line in sentences("dataset[0]", stats)) == is_told


def test_brackets_are_a_text_where_texts_are_read(job: Job) -> None:
    prepared = job.prepare(config_of([{"source": job.rows_file("t.jsonl", [*ROWS, {"text": "[]"}])}]))
    assert prepared.datasets[0].train.documents == 61
