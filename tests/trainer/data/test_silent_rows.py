"""Rows that say nothing are passed over and counted, one that cannot be used ends the job: in every kind of file, in every format."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import chat_kinds as kinds
import pyarrow as pa
import pyarrow.parquet
import pytest
from small_job import Job, config_of, sentence

from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.run_dir.notices import told


def turns(answer: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": "What?"}, {"role": "assistant", "content": answer}]


FORMATS: dict[str, dict[str, Any]] = {
    "text": {"text": sentence(1)},
    "promptCompletion": {"prompt": "What?", "completion": " four"},
    "messages": {"messages": turns("four")},
}
LEARNED = {"text": "text", "promptCompletion": "completion", "messages": "messages"}
NOTHING: dict[str, list[Any]] = {"text": [None, "", " \n"], "promptCompletion": [None, "", " "], "messages": [None, []]}


def as_jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_json(rows: list[dict[str, Any]]) -> bytes:
    return json.dumps(rows).encode()


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(rows[0])
    writer.writerows([[value if isinstance(value, str) else json.dumps(value) if value else "" for value in row.values()] for row in rows])
    return out.getvalue().encode()


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


KINDS = {"jsonl": as_jsonl, "json": as_json, "csv": as_csv, "parquet": as_parquet}


def job_on(job: Job, kind: str, format_: str, rows: list[dict[str, Any]]) -> TrainerConfig:
    kinds.tokenizer(kinds.CHATML).save_pretrained(job.root / "tok")
    path: Path = job.root / f"rows.{kind}"
    path.write_bytes(KINDS[kind](rows))
    training = {"sequenceLength": 64, "packing": False}
    tokenizer = {"source": f"file://{job.root / 'tok'}"}
    return config_of([{"source": f"file://{path}", "format": format_}], task="sft", training=training, tokenizer=tokenizer)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("format_", FORMATS)
def test_rows_that_say_nothing_are_passed_over_and_counted(job: Job, kind: str, format_: str) -> None:
    silent = [{**FORMATS[format_], LEARNED[format_]: nothing} for nothing in NOTHING[format_]]
    job.prepare(job_on(job, kind, format_, [FORMATS[format_]] * 9 + silent))
    count = len(silent)
    expected = f"{count} of {9 + count} rows are null or empty and were passed over (the first: file://{job.root}/rows.{kind} row 10)"
    assert any(expected in line for line in told(job.run))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("format_", FORMATS)
def test_more_than_half_of_such_rows_are_refused(job: Job, kind: str, format_: str) -> None:
    silent = {**FORMATS[format_], LEARNED[format_]: None}
    with pytest.raises(BadData, match=r"is null or empty in 10 of 19 rows"):
        job.prepare(job_on(job, kind, format_, [FORMATS[format_]] * 9 + [silent] * 10))


@pytest.mark.parametrize("kind", ["jsonl", "json"])
@pytest.mark.parametrize("format_", FORMATS)
def test_a_column_that_a_row_leaves_out_is_null_as_it_is_in_a_table(job: Job, kind: str, format_: str) -> None:
    whole = {"id": "x", **FORMATS[format_]}
    lacking = {key: value for key, value in whole.items() if key != LEARNED[format_]}
    job.prepare(job_on(job, kind, format_, [whole] * 9 + [lacking, {}]))
    assert any("2 of 11 rows are null or empty and were passed over" in line for line in told(job.run))
    with pytest.raises(BadData, match=r"row 10 \(found .*other"):
        job.prepare(job_on(job, kind, format_, [whole] * 9 + [{**lacking, "other": "what is not read"}]))


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet"])
@pytest.mark.parametrize("format_", FORMATS)
def test_one_row_that_cannot_be_used_ends_the_job_with_its_place(job: Job, kind: str, format_: str) -> None:
    bad: list[dict[str, Any]] = [{**FORMATS[format_], LEARNED[format_]: 5}]
    rows = bad * 9 if kind == "parquet" else [FORMATS[format_]] * 9 + bad
    with pytest.raises(BadData, match=rf"rows\.{kind} row {1 if kind == 'parquet' else 10}: column {LEARNED[format_]} is a number, not"):
        job.prepare(job_on(job, kind, format_, rows))


def test_a_conversation_without_an_answer_is_left_out_and_one_that_calls_it_otherwise_ends_the_job(job: Job) -> None:
    asked = [{"role": "user", "content": "What?"}]
    job.prepare(job_on(job, "jsonl", "messages", [FORMATS["messages"]] * 9 + [{"messages": asked}]))
    assert any("1 of 10 documents are empty or have no answer to learn and were left out" in line for line in told(job.run))
    assert any("1 conversations have no turn with role assistant" in line for line in told(job.run))
    with pytest.raises(BadData, match=r"10 of 19 documents are empty or have no answer to learn; .* 10 conversations have no turn"):
        job.prepare(job_on(job, "jsonl", "messages", [FORMATS["messages"]] * 9 + [{"messages": asked}] * 10))
    with pytest.raises(BadData, match=r"row 10: the conversation has no turn with role assistant to learn \(found user, gpt\)"):
        job.prepare(
            job_on(job, "jsonl", "messages", [FORMATS["messages"]] * 9 + [{"messages": [*asked, {"role": "gpt", "content": "four"}]}])
        )
