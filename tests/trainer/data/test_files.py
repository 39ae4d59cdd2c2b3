"""Which files of a source are read, and what is told of those that are not."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from llmtrain_trainer.config import Dataset
from llmtrain_trainer.data.bad_data import BadData, Changed
from llmtrain_trainer.data.sources.contents import content_of, unchanged
from llmtrain_trainer.data.sources.dataset import dataset_files, read_rows
from llmtrain_trainer.data.sources.files import DataFile
from llmtrain_trainer.data.sources.reading import Reading

LINE = b'{"text": "a"}\n'


def put(root: Path, *names: str, content: bytes = LINE) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def listed(source: Path | str, **settings: Any) -> tuple[list[str], str]:
    """Names of the files that are read, and what is told."""
    told: list[str] = []
    files = dataset_files("dataset[0]", Dataset(source=f"file://{source}", **settings), told.append)
    return [file.name for file in files], " ".join(told)


def refusal(source: Path | str, **settings: Any) -> str:
    dataset = Dataset(source=f"file://{source}", **settings)
    with pytest.raises(BadData) as raised:
        list(read_rows("dataset[0]", dataset, dataset_files("dataset[0]", dataset)))
    return str(raised.value)


@pytest.mark.parametrize("format_", ["text", "messages"])
def test_what_lies_beside_data_is_passed_over_and_named(tmp_path: Path, format_: str) -> None:
    put(
        tmp_path, "a.jsonl", "sub/b.ndjson", "c.jsonl.gz", "README.md", "LICENSE", "_SUCCESS", "dataset_info.json", "sub/.part.crc", "x.crc"
    )
    names, told = listed(tmp_path, format=format_)
    assert names == ["a.jsonl", "c.jsonl.gz", "sub/b.ndjson"]
    assert all(name in told for name in ("LICENSE", "README.md", "_SUCCESS", "dataset_info.json", "x.crc"))


def test_what_spark_delta_lake_and_a_desktop_leave_beside_data_is_passed_over(tmp_path: Path) -> None:
    put(tmp_path, "a.jsonl", "_temporary/0/a.jsonl", "_delta_log/0.json", "__MACOSX/a.jsonl", "Thumbs.db", "desktop.ini", "_own/b.jsonl")
    names, told = listed(tmp_path)
    assert names == ["_own/b.jsonl", "a.jsonl"]
    assert "5 of 7 files" in told


def test_among_texts_those_that_tell_of_them_are_passed_over_at_the_top_alone(tmp_path: Path) -> None:
    put(tmp_path, "one.txt", "two.md", "README.md", "LICENSE.txt", "code/README.md", "code/main.py")
    names, told = listed(tmp_path)
    assert names == ["code/README.md", "code/main.py", "one.txt", "two.md"]
    assert "2 of 6 files" in told
    assert "LICENSE.txt, README.md" in told
    assert listed(tmp_path / "README.md") == (["README.md"], "")
    assert listed(tmp_path / "*.md")[0] == ["README.md", "two.md"]


def test_a_file_that_may_be_data_and_is_not_read_is_refused_with_a_way_out_that_works(tmp_path: Path) -> None:
    put(tmp_path, "a.jsonl", "b.feather")
    assert "b.feather: a .feather file is not read. Convert it to .jsonl or .parquet, or name the files" in refusal(tmp_path)
    assert listed(tmp_path / "*.jsonl")[0] == ["a.jsonl"]


@pytest.mark.parametrize("odd", ["a[1]", "what?", "star*", "a b", "{x}", "semi;colon", "ü"])
def test_names_with_marks_are_names_where_they_are_there(tmp_path: Path, odd: str) -> None:
    put(tmp_path, f"{odd}/{odd}.jsonl", "a1/other.jsonl")
    assert listed(tmp_path / odd)[0] == [f"{odd}.jsonl"]
    assert listed(tmp_path / odd / f"{odd}.jsonl")[0] == [f"{odd}.jsonl"]
    assert listed(tmp_path / odd / "*.jsonl")[0] == [f"{odd}.jsonl"]


def test_a_directory_that_a_glob_names_is_read_with_everything_below_it(tmp_path: Path) -> None:
    put(tmp_path, "shard-0/a.jsonl", "shard-1/deep/b.jsonl", "other/c.jsonl")
    assert listed(f"{tmp_path}/shard-*")[0] == ["shard-0/a.jsonl", "shard-1/deep/b.jsonl"]


def test_links_are_followed_once_and_those_to_nothing_are_named(tmp_path: Path) -> None:
    put(tmp_path, "store/v.jsonl", "data/own.jsonl")
    data = tmp_path / "data"
    (data / "a.jsonl").symlink_to("../store/v.jsonl")
    (data / "again.jsonl").symlink_to("own.jsonl")
    (data / "dangling.jsonl").symlink_to("nowhere")
    (data / "itself.jsonl").symlink_to("itself.jsonl")
    (data / "round").symlink_to("..")
    names, told = listed(data)
    assert sorted(name.rpartition("/")[2] for name in names) in (["a.jsonl", "own.jsonl"], ["own.jsonl", "v.jsonl"])
    for part in ("dangling.jsonl (a link to nothing)", "again.jsonl (a link to own.jsonl, which is read already)", "itself.jsonl"):
        assert part in told
    (tmp_path / "only").symlink_to("nowhere")
    assert "there is no file" in refusal(tmp_path / "only")


def test_what_is_no_regular_file_is_never_read(tmp_path: Path) -> None:
    put(tmp_path, "a.txt")
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "zero.txt").symlink_to("/dev/zero")
    (tmp_path / "environ.txt").symlink_to("/proc/self/environ")
    names, told = listed(tmp_path)
    assert names == ["a.txt"]
    assert all(name in told for name in ("pipe.txt (a pipe", "zero.txt (leads to /dev/zero", "environ.txt (leads to /proc/"))
    assert "it is a pipe, not a regular file" in refusal(tmp_path / "pipe.txt")
    assert "it leads to /dev/zero, which is no data" in refusal("/dev/zero")
    assert "which is no data" in refusal(tmp_path / "environ.txt")


def test_a_pipe_put_in_a_files_place_does_not_hang(tmp_path: Path) -> None:
    put(tmp_path, "a.txt")
    dataset = Dataset(source=f"file://{tmp_path}/a.txt")
    files = dataset_files("dataset[0]", dataset)
    (tmp_path / "a.txt").unlink()
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(BadData, match="it is a pipe"):
        list(read_rows("dataset[0]", dataset, files))


def test_a_name_that_cannot_be_printed_is_escaped(tmp_path: Path) -> None:
    put(tmp_path, "a\n\x1b[31m.jsonl", content=b"{\n")
    Path(os.fsdecode(bytes(tmp_path) + b"/\xff.jsonl")).write_bytes(LINE)
    names, _ = listed(tmp_path)
    assert all(name.isprintable() for name in names)
    assert refusal(tmp_path).isprintable()


def test_a_packed_file_that_unpacks_without_bounds_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmtrain_trainer.data.sources.files.UNPACKED_FREELY", 1 << 20)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "' + b"0" * (3 << 20) + b'"}\n'))
    (tmp_path / "a.txt.zst").write_bytes(pa.compress(b"0" * (3 << 20), codec="zstd", asbytes=True))
    for name in ("a.jsonl.gz", "a.txt.zst"):
        assert "it unpacks to more than" in refusal(tmp_path / name)


def test_a_parquet_column_that_unpacks_without_bounds_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmtrain_trainer.data.sources.readers.UNPACKED_FREELY", 1 << 20)
    table = pa.table({"text": ["0" * (4 << 20)], "other": ["0" * (4 << 20)]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", compression="zstd", use_dictionary=False)
    assert "its column text unpacks to over 500 times its own size" in refusal(tmp_path / "a.parquet")


def test_a_line_or_a_file_that_cannot_be_held_in_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmtrain_trainer.data.sources.readers.LONGEST_LINE", 100)
    monkeypatch.setattr("llmtrain_trainer.data.sources.readers.LONGEST_DOCUMENT", 100)
    put(tmp_path, "a.jsonl", content=LINE + b"x" * 200)
    put(tmp_path, "a.txt", content=b"x" * 200)
    assert "a.jsonl row 2: the line is longer than" in refusal(tmp_path / "a.jsonl")
    assert "a text file is read as a whole" in refusal(tmp_path / "a.txt").replace("txt file", "text file")


ROWS = {
    "a.jsonl": b'\xef\xbb\xbf{"text": "x"}\n\xef\xbb\xbf{"text": "y"}\r\n',
    "a.json": b'\xef\xbb\xbf[{"text": "x"}, {"text": "y"}]',
    "lines.json": b'\xef\xbb\xbf{"text": "x"}\n{"text": "y"}\n',
    "a.csv": b"\xef\xbb\xbftext\r\nx\r\ny\r\n",
    "mac.jsonl": b'{"text": "x"}\r{"text": "y"}\r',
    "a.ndjson": b'{"text": "x"}\n\n{"text": "y"}',
}


@pytest.mark.parametrize("name", ROWS)
def test_a_mark_at_the_start_and_every_line_end_are_read_over(tmp_path: Path, name: str) -> None:
    put(tmp_path, name, content=ROWS[name])
    dataset = Dataset(source=f"file://{tmp_path}/{name}")
    assert [row.values for row in read_rows("d", dataset, dataset_files("d", dataset))] == [{"text": "x"}, {"text": "y"}]


BROKEN = {
    "wide.jsonl": ('{"text": "x"}\n'.encode("utf-16"), "wide.jsonl row 1: it is UTF-16, not UTF-8 text"),
    "latin.csv": (b"text\nok\ncaf\xe9\n", "latin.csv row 3: it is not UTF-8 text (byte 3)"),
    "quote.csv": (
        b'text\nok\n"never closed\nand\nmore\n',
        "quote.csv row 2: it is not CSV (unexpected end of data; the row begins at line 3)",
    ),
    "header.csv": (b'"text', "header.csv row 1: it is not CSV"),
    "short.csv": (b"id,text\n1,x\n2\n", "short.csv row 2: it ends before column text (the header has 2 fields)"),
    "twice.csv": (b"text,text\n1,x\n", "twice.csv: its header names column text twice"),
    "cut.json": (b'[{"text": "x"},\n {"text": "y"', "cut.json line 2: it is not JSON (Expecting ',' delimiter at column 14)"),
    "digits.jsonl": (b'{"n": ' + b"1" * 5000 + b"}\n", "digits.jsonl row 1: it is not JSON (Exceeds the limit"),
    "deep.jsonl": (b'{"text": "x"}\n' + b"[" * 100_000 + b"\n", "deep.jsonl row 2: it is not JSON (it is nested too deep)"),
    "cut.jsonl.gz": (gzip.compress(LINE * 5)[:-12], "cut.jsonl.gz row"),
    "other.jsonl.zst": (b"plain", "other.jsonl.zst row 1: it cannot be decompressed"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_row_is_named_with_its_number(tmp_path: Path, name: str) -> None:
    content, message = BROKEN[name]
    put(tmp_path, name, content=content)
    said = refusal(tmp_path / name)
    assert said.startswith(f"spec.dataset[0].source is file://{tmp_path}/")
    assert message in said


def parquet(path: Path) -> bytes:
    pyarrow.parquet.write_table(
        pa.table({"text": [f"line {i} " * 40 for i in range(2000)]}), path, compression="zstd", use_dictionary=False
    )
    return path.read_bytes()


@pytest.mark.parametrize("where", [0.0, 0.02, 0.5, 0.9, 0.999])
def test_a_damaged_parquet_file_is_bad_data_wherever_the_damage_is(tmp_path: Path, where: float) -> None:
    whole = bytearray(parquet(tmp_path / "a.parquet"))
    at = min(int(len(whole) * where), len(whole) - 9)
    whole[at : at + 8] = b"\xff" * 8
    put(tmp_path, "a.parquet", content=bytes(whole))
    dataset = Dataset(source=f"file://{tmp_path}/a.parquet")
    try:
        rows = list(read_rows("dataset[0]", dataset, dataset_files("dataset[0]", dataset)))
    except BadData as error:
        assert "a.parquet" in str(error)
    else:
        assert len(rows) == 2000  # the damage hit nothing that is read


def test_a_null_is_passed_over_and_counted_and_a_column_of_nulls_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "a.jsonl", content=LINE * 3 + b'{"text": null}\nnull\n')
    dataset = Dataset(source=f"file://{tmp_path}/a.jsonl")
    reading = Reading()
    assert len(list(read_rows("dataset[0]", dataset, dataset_files("dataset[0]", dataset), reading))) == 3
    (told,) = reading.sentences("dataset[0]")
    assert told == f"dataset[0]: 2 of 5 rows are null or empty and were passed over (the first: file://{tmp_path}/a.jsonl row 4)."
    put(tmp_path, "b.jsonl", content=LINE + b'{"text": null}\n' * 2)
    assert "text is null or empty in 2 of 3 rows (the first: " in refusal(tmp_path / "b.jsonl")


def test_half_of_a_surrogate_pair_becomes_the_replacement_character_and_is_counted(tmp_path: Path) -> None:
    put(tmp_path, "a.jsonl", content=rb'{"text": "cut \ud83d"}' + b"\n" + rb'{"text": "whole \ud83d\ude00"}' + b"\n")
    dataset = Dataset(source=f"file://{tmp_path}/a.jsonl")
    reading = Reading()
    rows = list(read_rows("d", dataset, dataset_files("d", dataset), reading))
    assert [row.values["text"] for row in rows] == ["cut \ufffd", "whole \U0001f600"]
    assert list(reading.sentences("d")) == ["d: 1 row holds halves of surrogate pairs; each half became U+FFFD."]


def test_test_data_in_a_directory_is_told_of(tmp_path: Path) -> None:
    put(tmp_path, "train.jsonl", "test.jsonl")
    assert "test.jsonl in" in listed(tmp_path)[1]
    assert listed(tmp_path / "train.jsonl")[1] == ""


def of(path: Path) -> DataFile:
    (file,) = dataset_files("d", Dataset(source=f"file://{path}"))
    return file


def test_content_is_told_by_bytes_not_by_size_and_time(tmp_path: Path) -> None:
    """As where a link is swapped, or a copy keeps the times: neither size nor modification time changes."""
    put(tmp_path, "one/a.jsonl", content=b'{"text": "river"}\n')
    put(tmp_path, "two/a.jsonl", content=b'{"text": "stone"}\n')
    for name in ("one", "two"):
        os.utime(tmp_path / name / "a.jsonl", (1, 1))
    link = tmp_path / "data.jsonl"
    link.symlink_to("one/a.jsonl")
    first = of(link)
    before = content_of("d", first, tmp_path / "cache")
    link.unlink()
    link.symlink_to("two/a.jsonl")
    assert content_of("d", of(link), tmp_path / "cache") != before
    with pytest.raises(Changed, match="it changed while it was read"):
        unchanged("d", first)
    (tmp_path / "two/a.jsonl").write_bytes((tmp_path / "one/a.jsonl").read_bytes())
    os.utime(tmp_path / "two/a.jsonl", (1, 1))
    assert content_of("d", of(link), tmp_path / "cache") == before


def test_a_split_of_a_hub_repository_is_never_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    snapshot = tmp_path / "datasets--o--n" / "snapshots" / ("a" * 40)
    put(snapshot, "rows.jsonl")
    put(snapshot.parents[1], "refs/main", content=b"a" * 40)

    def names(source: str, split: str) -> list[str]:
        return [file.name for file in dataset_files("dataset[0]", Dataset(source=source, split=split))]

    assert names("hf://o/n", "train") == ["rows.jsonl"]
    assert names("hf://o/n/rows.jsonl", "train") == ["rows.jsonl"]
    for source in ("hf://o/n", "hf://o/n/rows.jsonl"):
        with pytest.raises(BadData, match=r"split is test: no file of the repository is named after it \(found rows\.jsonl\)"):
            names(source, "test")
    assert names("hf://o/n", "train[10:100]") == ["rows.jsonl"]
    (snapshot / "rows.jsonl").rename(snapshot / "train.jsonl")
    assert names("hf://o/n", "train") == ["train.jsonl"]
    with pytest.raises(BadData, match="split is test"):
        names("hf://o/n", "test")


def test_rows_are_json_in_every_case(tmp_path: Path) -> None:
    put(tmp_path, "A.JSONL.GZ", content=gzip.compress(json.dumps({"text": "x"}).encode()))
    dataset = Dataset(source=f"file://{tmp_path}/A.JSONL.GZ")
    assert [row.values for row in read_rows("d", dataset, dataset_files("d", dataset))] == [{"text": "x"}]
