"""badRows: what skip leaves out, how it is told, and what ends the job all the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import chat_kinds as kinds
import pytest
from small_job import Job, config_of, sentence

from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.run_dir.notices import told

GOOD = [json.dumps({"text": sentence(i)}) for i in range(60)]
BAD = {
    "no JSON": b'{"text": "a',
    "a list": b"[1, 2]",
    "a number": b'{"text": 3}',
    "not UTF-8": b'{"text": "\xff"}',
    "another column": b'{"body": "a"}',
}


def file_of(job: Job, lines: list[bytes], name: str = "a.jsonl") -> str:
    path = job.root / "files" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return f"file://{path}"


def mixed(bad: list[bytes]) -> list[bytes]:
    return [*(line.encode() for line in GOOD[:30]), *bad, *(line.encode() for line in GOOD[30:])]


def skipping(source: str, **others: Any) -> TrainerConfig:
    return config_of([{"source": source, "badRows": "skip", **others}])


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_left_out_and_counted_where_the_dataset_says_so(job: Job, name: str) -> None:
    source = file_of(job, mixed([BAD[name]]))
    with pytest.raises(BadData):
        job.prepare(config_of([{"source": source}]))
    kept = job.prepare(skipping(source)).datasets[0].train
    assert kept.documents == 60
    said = [line for line in told(job.run) if "badRows" in line]
    assert len(said) == 1
    assert said[0].startswith("dataset[0]: 1 of 61 rows cannot be read or trained on and were left out, as badRows: skip says (the first: ")
    assert "row 31" in said[0]


def test_the_rows_that_are_left_are_those_of_the_file_without_the_bad_ones(job: Job, tmp_path: Path) -> None:
    rows = job.prepare(skipping(file_of(job, mixed(list(BAD.values()))))).datasets[0].train
    other = Job(tmp_path / "other")
    assert rows.digest == other.prepare(config_of([{"source": file_of(other, mixed([]))}])).datasets[0].train.digest


def test_a_row_of_csv_with_too_many_or_too_few_fields_is_left_out_and_wrong_quotes_end_the_job(job: Job) -> None:
    lines = [b"id,text", *(f"{i},{sentence(i).strip()}".encode() for i in range(60))]
    source = file_of(job, [*lines, b"1,2,3", b"4"], "a.csv")
    assert job.prepare(skipping(source)).datasets[0].train.documents == 60
    assert any("2 of 62 rows cannot be read" in line and "it has more fields than the 2 of the header" in line for line in told(job.run))
    with pytest.raises(BadData, match="it is not CSV"):
        job.prepare(skipping(file_of(job, [*lines, b'1,"a"b'], "b.csv")))


def test_a_conversation_that_the_template_refuses_is_left_out(job: Job) -> None:
    turns = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "Four."}]
    rows = [{"messages": turns}] * 20 + [{"messages": turns[1:] * 2}] * 3
    kinds.tokenizer(kinds.BRACKETS).save_pretrained(job.root / "tok")
    given = {"source": job.rows_file("m.jsonl", rows), "format": "messages", "badRows": "skip"}
    config = config_of([given], task="sft", tokenizer={"source": f"file://{job.root / 'tok'}"})
    assert job.prepare(config).datasets[0].train.documents == 20
    assert any("3 of 23 rows" in line and "roles must alternate" in line for line in told(job.run))


def test_data_that_is_mostly_bad_is_refused_with_what_is_wrong(job: Job) -> None:
    source = file_of(job, [*(line.encode() for line in GOOD[:10]), *[BAD["no JSON"]] * 11])
    with pytest.raises(BadData) as raised:
        job.prepare(skipping(source))
    assert "dataset[0].badRows is skip: 11 of 21 rows of" in str(raised.value)
    assert "more than half (the first: " in str(raised.value)
    assert "row 11: it is not JSON" in str(raised.value)


def test_a_template_that_can_write_nothing_ends_the_job_all_the_same(job: Job) -> None:
    row = {"messages": [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "Four."}]}
    given = {"source": job.rows_file("m.jsonl", [row] * 20), "format": "messages", "badRows": "skip"}
    tokenizer = {"train": {"algorithm": "bpe", "vocabSize": 300}, "chatTemplate": "{{ messages | shout }}"}
    with pytest.raises(BadData, match="the template can write no conversation"):
        job.prepare(config_of([given], task="sft", tokenizer=tokenizer))


def test_a_streamed_dataset_tells_of_the_rows_that_it_leaves_out(job: Job) -> None:
    job.prepare(skipping(file_of(job, mixed([BAD["no JSON"]])), streaming=True))
    assert any("1 of 61 rows cannot be read" in line and "Later ones are not counted" in line for line in told(job.run))


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("left_out", ["where", "clean", "duplicates"])
def test_rows_that_where_and_clean_leave_out_do_not_hide_that_most_others_are_bad(job: Job, silent: bool, left_out: str) -> None:
    left = {"text": "no", "good": 0}
    bad = ({"text": "" if silent else {"odd": sentence(i)}, "good": 1} for i in range(20))
    rows = [*[left] * 40, *bad, *({"text": sentence(i), "good": 1} for i in range(10))]
    given: dict[str, Any] = {
        "where": {"where": "good == 1"},
        "clean": {"clean": {"minCharacters": 3}},
        "duplicates": {"clean": {"duplicates": "exact"}},
    }
    counts = r"20 of 31" if left_out == "duplicates" else r"20 of 30"
    with pytest.raises(BadData, match=counts):
        job.prepare(skipping(job.rows_file("a.jsonl", rows), ignoreColumns=["good"], **given[left_out]))
