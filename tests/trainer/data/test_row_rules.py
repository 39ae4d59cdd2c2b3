"""`where`, `template` and `subset` of a dataset: rows that are kept, what they become, what is told, what is refused."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import chat_kinds as kinds
import pyarrow as pa
import pyarrow.parquet
import pytest
from small_job import Job, config_of, sentence

from llmtrain_trainer.config import Dataset
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.sources import row_rules
from llmtrain_trainer.data.sources.dataset import dataset_files, read_rows
from llmtrain_trainer.data.template_bounds import bounded
from llmtrain_trainer.run_dir.notices import told

RECORDS = [{"instruction": f"Count cars {i}.", "input": f"CREATE TABLE t{i}", "output": f"SELECT {i}", "rating": i % 5} for i in range(20)]


def file_of(path: Path, rows: list[dict[str, Any]]) -> str:
    """By its ending: .jsonl, .csv, .parquet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        path.write_text("".join(",".join(map(str, line)) + "\n" for line in (rows[0], *(row.values() for row in rows))))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"file://{path}"


def read(source: str, **given: Any) -> list[dict[str, Any]]:
    dataset = Dataset.model_validate({"source": source, **given})
    return [row.values for row in read_rows("dataset[0]", dataset, dataset_files("dataset[0]", dataset))]


def refusal(source: str, **given: Any) -> str:
    with pytest.raises(BadData) as raised:
        read(source, **given)
    return str(raised.value)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_rows_that_meet_where_are_kept_in_every_kind_of_file(tmp_path: Path, name: str) -> None:
    source = file_of(tmp_path / name, RECORDS)
    kept = read(source, format="alpaca", where="rating | int >= 3 and 'Count' in instruction")
    assert [row["output"] for row in kept] == [row["output"] for row in RECORDS if int(row["rating"]) >= 3]


def test_rows_that_do_not_meet_where_are_counted_and_told(job: Job) -> None:
    rows = [{"text": sentence(i), "review": None if i % 3 else "good"} for i in range(60)]
    found = job.prepare(config_of([{"source": job.rows_file("a.jsonl", rows), "where": "review is not null"}])).datasets[0].train
    assert found.documents == 20
    assert "dataset[0]: 40 of 60 rows do not meet dataset[0].where and were left out." in told(job.run)
    assert not any("not read" in line for line in told(job.run))


def test_a_column_that_a_row_leaves_out_is_null_where_other_rows_have_it(tmp_path: Path) -> None:
    rows = [{"text": "a", "lang": "en"}, {"text": "b"}, {"text": "c", "lang": "de"}]
    assert [row["text"] for row in read(file_of(tmp_path / "a.jsonl", rows), where="lang != 'de'")] == ["a", "b"]


SOME: list[dict[str, Any]] = [{"text": "a"}, {"text": "b", "lang": "de"}, {"text": "c"}, {"text": "d", "lang": "en"}]


@pytest.mark.parametrize("where", ["lang != 'de'", "not (lang == 'de')", "lang in ('en', none)", "lang | default('') != 'de'"])
def test_a_column_that_the_first_rows_leave_out_is_null_too_whatever_the_order(job: Job, where: str) -> None:
    for i, rows in enumerate((SOME, SOME[::-1], SOME[1:] + SOME[:1])):
        kept = read(file_of(job.root / f"{i}.jsonl", rows), where=where)
        assert sorted(row["text"] for row in kept) == ["a", "c", "d"]
    given = {"source": job.rows_file("a.jsonl", [{"text": sentence(i), **({"lang": "de"} if i > 50 else {})} for i in range(60)])}
    assert job.prepare(config_of([{**given, "where": where}])).datasets[0].train.documents == 51
    assert "dataset[0]: 51 of 60 rows have no column lang, which dataset[0] names in where or template: it is null there." in told(job.run)


def test_a_template_writes_nothing_for_a_column_that_the_first_rows_leave_out(tmp_path: Path) -> None:
    assert [row["text"] for row in read(file_of(tmp_path / "a.jsonl", SOME), template={"text": "{{ text }}{{ lang }}"})] == [
        *("a", "bde", "c", "den"),
    ]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"where": "langg != 'de'"}, "where is langg != 'de': it uses the column langg"),
        ({"where": "text == 'b' or langg is none or langg != 'de'"}, ""),
        ({"where": "langg | default('') != 'de'"}, ""),
        ({"template": {"text": "{{ text }}{{ langg }}"}}, "template is text: it uses the column langg"),
        ({"template": {"text": "{{ text }}{{ langg | default('-') }}"}}, ""),
        ({"template": {"text": "{% if langg is defined %}{{ langg }}{% endif %}{{ text }}"}}, ""),
    ],
)
def test_a_column_that_no_row_has_is_refused_unless_its_absence_is_asked_for(
    job: Job, given: dict[str, Any], what: str, streaming: bool
) -> None:
    source = job.rows_file("a.jsonl", [{"text": sentence(i), "lang": "en"} for i in range(30)])
    config = config_of([{"source": source, "streaming": streaming, "ignoreColumns": ["lang"], **given}])
    if not what:
        job.prepare(config)
        return
    with pytest.raises(BadData) as raised:
        job.prepare(config)
    assert f"dataset[0].{what}, which none of 30 rows of" in str(raised.value)
    assert str(raised.value).endswith("Correct the name, or write langg | default('') where rows may leave it out.")


def test_a_condition_that_no_row_meets_or_that_cannot_be_computed_is_refused(tmp_path: Path) -> None:
    source = file_of(tmp_path / "a.jsonl", [{"text": "a", "n": 1}] * 4)
    assert "spec.dataset[0].where is n > 5: none of 4 rows of" in refusal(source, where="n > 5")
    assert "dataset[0].where is n >: it is not a valid expression" in refusal(source, where="n >")
    assert "row 1: dataset[0].where cannot be computed ('m' is undefined; found text, n)" in refusal(source, where="m > 5")
    assert "row 1: dataset[0].where cannot be computed (" in refusal(source, where="n > 'a'")


def test_an_expression_reaches_nothing_of_python(tmp_path: Path) -> None:
    source = file_of(tmp_path / "a.jsonl", [{"text": "a"}])
    for odd in ("text.__class__.__mro__", "''.__class__.__base__.__subclasses__()", "text.__init__.__globals__"):
        assert "cannot be computed" in refusal(source, where=odd)
        assert "cannot be computed" in refusal(source, template={"text": "{{ " + odd + " }}"})


PAIR = {"prompt": "{{ instruction }}\n{{ input }}\n", "completion": " {{ output }}"}


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_templates_write_what_the_format_reads_from_other_columns(job: Job, name: str) -> None:
    source = file_of(job.root / name, [{k: v for k, v in row.items() if k != "rating"} for row in RECORDS])
    found = read(source, format="promptCompletion", template=PAIR)
    assert (found[3]["prompt"], found[3]["completion"]) == ("Count cars 3.\nCREATE TABLE t3\n", " SELECT 3")
    given = {"source": source, "format": "promptCompletion", "template": PAIR}
    assert job.prepare(config_of([given], task="sft", training={"sequenceLength": 128, "packing": False})).datasets[0].train.documents == 20
    assert not any("not read" in line for line in told(job.run))


def test_a_column_that_no_template_reads_is_still_refused_or_told() -> None:
    row = {"instruction": "Count.", "input": "TABLE", "output": "SELECT"}
    without = {"prompt": "{{ instruction }}", "completion": "{{ output }}"}
    dataset = Dataset.model_validate({"source": "file:///x", "format": "promptCompletion", "template": without})
    from llmtrain_trainer.data.formats.columns import check_columns
    from llmtrain_trainer.data.sources.readers import Row
    from llmtrain_trainer.data.sources.reading import Reading
    from llmtrain_trainer.data.sources.row_rules import RowRules

    made = RowRules("dataset[0]", dataset, Reading()).made(Row("f row 1", row))
    with pytest.raises(BadData, match="column input holds a part of the prompt"):
        check_columns("dataset[0]", dataset, made)


def test_a_null_is_written_as_nothing_and_a_row_whose_answer_is_nothing_is_counted(job: Job) -> None:
    rows = [{"q": f"q{i}", "note": None, "a": "" if i < 5 else f" a{i}"} for i in range(20)]
    template = {"prompt": "{{ q }}{{ note }}", "completion": "{{ a }}"}
    given = {"source": job.rows_file("a.jsonl", rows), "format": "promptCompletion", "template": template}
    assert read(given["source"], format="promptCompletion", template=template)[0]["prompt"] == "q5"
    job.prepare(config_of([given], task="sft", training={"packing": False}))
    assert any("5 of 20 rows are null or empty" in line for line in told(job.run))


def test_templates_that_cannot_be_used_are_refused_with_field_and_way_out(tmp_path: Path) -> None:
    source = file_of(tmp_path / "a.jsonl", [{"text": "a"}])
    assert "template.prompt is x: format text does not read it. Write templates for text" in refusal(source, template={"prompt": "x"})
    assert "template.text is {{ a: it is not a valid Jinja template" in refusal(source, template={"text": "{{ a"})
    assert "dataset[0].template cannot be computed ('b' is undefined; found text)" in refusal(source, template={"text": "{{ b + 1 }}"})


def test_a_record_of_text_to_sql_keeps_its_question_through_a_template_and_a_chat_template() -> None:
    from llmtrain_trainer.data.sources.readers import Row
    from llmtrain_trainer.data.sources.reading import Reading
    from llmtrain_trainer.data.sources.row_rules import RowRules

    row = {"db_id": "cars", "instruction": "You are a SQL expert.", "input": "How many?", "output": "SELECT 1"}
    template = {"instruction": "{{ instruction }} ({{ db_id }})"}
    dataset = Dataset.model_validate({"source": "file:///x", "format": "alpaca", "template": template})
    made = RowRules("dataset[0]", dataset, Reading()).made(Row("f row 1", row)).values
    learned, ignored = kinds.learned_and_ignored(kinds.CHATML, made, format="alpaca", ignoreColumns=["db_id"])
    assert learned == "SELECT 1<|im_end|>"
    assert "You are a SQL expert. (cars)\nHow many?" in ignored


CARD = """---
configs:
- config_name: mrpc
  data_files:
  - {split: train, path: "data/pairs-*.jsonl"}
  - {split: test, path: [data/held.jsonl]}
- config_name: whole
  data_files: "*/*.jsonl"
---
# Title
"""


def test_a_subset_has_the_files_that_the_card_names_or_those_named_after_it(tmp_path: Path) -> None:
    for name in ("data/pairs-0.jsonl", "data/pairs-1.jsonl", "data/held.jsonl", "cola/train.jsonl", "cola/test.jsonl"):
        file_of(tmp_path / name, [{"text": name}])
    source = f"file://{tmp_path}"
    (tmp_path / "README.md").write_text(CARD)

    def names(**given: Any) -> list[str]:
        return [row["text"] for row in read(source, **given)]

    assert names(subset="mrpc") == ["data/pairs-0.jsonl", "data/pairs-1.jsonl"]
    assert names(subset="mrpc", split="train[1:]") == ["data/pairs-1.jsonl"]
    assert names(subset="mrpc", split="test") == ["data/held.jsonl"]
    assert len(names(subset="whole")) == 5
    assert names(subset="cola", split="test") == ["cola/test.jsonl"]
    assert "split is dev: its subset mrpc has no files of this split (found train, test)" in refusal(source, subset="mrpc", split="dev")
    assert "subset is sst2: no file of" in refusal(source, subset="sst2")
    (tmp_path / "README.md").unlink()
    assert names(subset="cola", split="train") == ["cola/train.jsonl"]
    assert "subset is mrpc: no file of" in refusal(source, subset="mrpc")


@pytest.mark.parametrize("where", ["deleted is null", "deleted is none", "deleted is undefined", "deleted | default('no') == 'no'"])
def test_null_and_missing_are_the_same_whatever_the_order_of_rows(tmp_path: Path, where: str) -> None:
    rows = [{"text": "a"}, {"text": "b", "deleted": "yes"}, {"text": "c"}, {"text": "d", "deleted": None}]
    for i, ordered in enumerate((rows, rows[::-1])):
        kept = [row["text"] for row in read(file_of(tmp_path / f"{i}.jsonl", ordered), where=where)]
        assert sorted(kept) == ["a", "c", "d"]
        assert read(file_of(tmp_path / f"{i}.jsonl", ordered), where="deleted is defined")[0]["text"] == "b"
    written = read(file_of(tmp_path / "t.jsonl", rows), template={"text": "{{ text }}{{ deleted | d('-') }}"})
    assert [row["text"] for row in written] == ["a-", "byes", "c-", "d-"]


def test_tojson_writes_as_chat_templates_do(tmp_path: Path) -> None:
    source = file_of(tmp_path / "a.jsonl", [{"text": "a", "call": {"z": "<é>'&", "a": 1}}])
    assert read(source, template={"text": "{{ call | tojson }}"})[0]["text"] == '{"z": "<é>\'&", "a": 1}'
    assert read(source, template={"text": "{{ call | tojson(indent=1) }}"})[0]["text"] == '{\n "z": "<é>\'&",\n "a": 1\n}'


def test_a_condition_that_is_there_in_some_rows_only_or_gives_text_names_its_row(tmp_path: Path) -> None:
    source = file_of(
        tmp_path / "a.jsonl", [{"text": "a", "meta": {"good": True}}, {"text": "b", "meta": {}}, {"text": "c", "meta": {"good": 1}}]
    )
    assert "row 2: dataset[0].where cannot be computed (" in refusal(source, where="meta.good")
    assert [row["text"] for row in read(source, where="meta.good", badRows="skip")] == ["a", "c"]
    table = file_of(tmp_path / "a.csv", [{"text": "a", "good": False}])
    assert "row 1: dataset[0].where cannot be computed (it gives text, not true or false: compare it" in refusal(table, where="good")
    assert "cannot be computed (it writes a generator" in refusal(table, where="text | map('upper')")


@pytest.mark.parametrize("odd", ["tags | map('upper')", "text.upper", "range", "cycler('a', 'b')", "tags | unique"])
def test_a_template_that_would_write_an_address_in_memory_is_refused(tmp_path: Path, odd: str) -> None:
    source = file_of(tmp_path / "a.jsonl", [{"text": "a", "tags": ["x", "y"]}])
    assert "template cannot be computed (it writes a generator, which is no text: end it in | list" in refusal(
        source, template={"text": "{{ " + odd + " }}"}
    )
    assert read(source, template={"text": "{{ tags | map('upper') | join(' ') }}"})[0]["text"] == "X Y"


def test_nothing_differs_from_one_run_to_the_next(tmp_path: Path) -> None:
    source = file_of(tmp_path / "a.jsonl", [{"text": "a", "tags": ["x", "y"]}])
    assert "it is not a valid Jinja template (No filter named 'random'" in refusal(source, template={"text": "{{ tags | random }}"})
    assert "'lipsum' is undefined" in refusal(source, template={"text": "{{ lipsum() }}"})


ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}{{ text }}"


def test_an_expression_without_end_or_measure_is_refused_with_its_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_rules, "bounded", partial(bounded, seconds=0.3))
    source = file_of(tmp_path / "a.jsonl", [{"text": "a", "n": 7}])
    why = "of the processor's time"
    assert f"where is 9**(9**9) > n: it is not a valid expression (it takes more than 20 s {why}" in refusal(source, where="9**(9**9) > n")
    assert "row 1: dataset[0].where cannot be computed (it takes more" in refusal(source, where="n**(n**9) > 1")
    assert "row 1: dataset[0].template cannot be computed (it takes more" in refusal(source, template={"text": ENDLESS})
    assert "cannot be computed (MemoryError" in refusal(source, template={"text": "{{ text * 30000000000 }}"})


@pytest.mark.parametrize("odd", ["(" * 2000 + "n" + ")" * 2000, "7**(7**5) > n", "not " * 900 + "n"])
def test_what_no_compiler_takes_is_refused_with_its_field(tmp_path: Path, odd: str) -> None:
    source = file_of(tmp_path / "a.jsonl", [{"text": "a", "n": 7}])
    assert "spec.dataset[0].where" in refusal(source, where=odd)
    assert "spec.dataset[0].template.text" in refusal(source, template={"text": "{{ " + odd + " }}"})


PLACED = """---
configs:
- {config_name: dotted, data_files: "./data/pairs-*.jsonl"}
- {config_name: placed, data_dir: ./data}
- {config_name: within, data_dir: data/, data_files: [{split: train, path: pairs-1.jsonl}, {split: dev, path: data/held.jsonl}]}
- {config_name: gone, data_dir: elsewhere}
---
"""


def test_a_card_may_name_a_directory_or_begin_paths_with_a_dot(tmp_path: Path) -> None:
    for name in ("data/pairs-0.jsonl", "data/pairs-1.jsonl", "data/held.jsonl", "database/other.jsonl"):
        file_of(tmp_path / name, [{"text": name.removeprefix("data/")}])
    (tmp_path / "README.md").write_text(PLACED)

    def names(**given: Any) -> list[str]:
        return [row["text"] for row in read(f"file://{tmp_path}", **given)]

    assert names(subset="dotted") == ["pairs-0.jsonl", "pairs-1.jsonl"]
    assert sorted(names(subset="placed")) == ["held.jsonl", "pairs-0.jsonl", "pairs-1.jsonl"]
    assert names(subset="within") == ["pairs-1.jsonl"]
    assert names(subset="within", split="dev") == ["held.jsonl"]
    assert "subset is gone: README.md says that its files are in elsewhere/" in refusal(f"file://{tmp_path}", subset="gone")


@pytest.mark.parametrize("card", [b"---\nconfigs: [}\n---\n", b"---\na: \xff\n---\n", b"---\n- a\n---\n"], ids=["yaml", "encoding", "list"])
def test_a_card_that_cannot_be_read_is_refused_where_a_subset_is_named(tmp_path: Path, card: bytes) -> None:
    source = file_of(tmp_path / "cola" / "a.jsonl", [{"text": "a"}]).removesuffix("/cola/a.jsonl")
    (tmp_path / "README.md").write_bytes(card)
    found = refusal(source, subset="cola")
    assert "dataset[0].subset is cola: the metadata in README.md, which name its files, cannot be read (" in found
    assert found.endswith("Correct the file, or leave subset out and name the files in source.")
    assert read(source) == [{"text": "a"}]
