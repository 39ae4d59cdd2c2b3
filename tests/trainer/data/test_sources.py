"""Reading files: kinds, order, and what is said of bad ones."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from llmtrain_trainer.config import Dataset
from llmtrain_trainer.config.mounts import resolve
from llmtrain_trainer.data.bad_data import BadData, Unreachable
from llmtrain_trainer.data.sources.dataset import Row, dataset_files, held_back, in_batches, read_rows


def rows_of(source: Path | str, **settings: Any) -> list[dict[str, Any]]:
    uri = source if isinstance(source, str) else f"file://{source}"
    dataset = Dataset(source=uri, **settings)
    return [row.values for row in read_rows("dataset[0]", dataset, dataset_files("dataset[0]", dataset))]


LINES = [{"text": f"line {i}"} for i in range(5)]
JSONL = "".join(json.dumps(line) + "\n" for line in LINES).encode()

WRITERS = {
    "a.jsonl": JSONL,
    "a.jsonl.gz": gzip.compress(JSONL),
    "a.jsonl.zst": pa.compress(JSONL, codec="zstd", asbytes=True),
    "a.json": json.dumps(LINES).encode(),
    "lines.json": JSONL,
    "a.csv": b'text\n"line 0"\nline 1\nline 2\nline 3\nline 4\n',
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(WRITERS[name])
    assert rows_of(tmp_path / name) == LINES


def test_parquet_gives_the_same_rows_and_reads_only_the_columns_it_needs(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pa.table({"text": [line["text"] for line in LINES], "other": [0] * 5}), tmp_path / "a.parquet")
    assert rows_of(tmp_path / "a.parquet") == LINES


def test_a_directory_is_read_in_sorted_order_and_hidden_files_are_left_out(tmp_path: Path) -> None:
    for name in ("b/2.txt", "a/10.txt", "a/1.md", ".git/config", "c.py", "_SUCCESS"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert [row["text"] for row in rows_of(tmp_path)] == ["a/1.md", "a/10.txt", "b/2.txt", "c.py"]
    assert [row["text"] for row in rows_of(f"file://{tmp_path}/*/*.txt")] == ["a/10.txt", "b/2.txt"]
    assert [row["text"] for row in rows_of(f"file://{tmp_path}/**/*.txt", max_samples=1)] == ["a/10.txt"]


def test_a_claim_is_found_where_it_is_mounted() -> None:
    assert resolve("pvc://corpus/books/*.txt") == "file:///mnt/pvc/corpus/books/*.txt"
    assert resolve("s3://bucket/x") == "s3://bucket/x"


BAD_FILES = {
    "a.jsonl": (
        b'{"text": "x"}\n{"text"\n',
        "a.jsonl row 2: it is not JSON (Expecting ':' delimiter at column 8). Write one",
    ),
    "list.jsonl": (b"[1]\n", "list.jsonl row 1: it is a list, not an object"),
    "a.csv": (b"text,other\nx,1\nx,1,2\n", "a.csv row 2: it has more fields than the 2 of the header"),
    "a.parquet": (b"not parquet at all", "a.parquet: it is not a parquet file"),
    "a.txt": (b"caf\xe9", "a.txt: it is not UTF-8 text (byte 3). Convert it to UTF-8, or choose the text files with a glob."),
    "a.txt.gz": (gzip.compress(b"x" * 10_000)[:-20], "a.txt.gz: it cannot be decompressed to its end"),
    "b.txt.gz": (b"plain", "b.txt.gz: it cannot be decompressed to its end (Not a gzipped file"),
    "a.txt.zst": (b"plain", "a.txt.zst: it cannot be decompressed to its end"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_named_with_row_and_way_out(tmp_path: Path, name: str) -> None:
    content, message = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadData) as raised:
        rows_of(tmp_path / name)
    assert str(raised.value).startswith(f"spec.dataset[0].source is file://{tmp_path}/")
    assert message in str(raised.value)


def test_a_text_file_has_no_columns(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(BadData, match="is a text file without columns"):
        rows_of(tmp_path / "a.txt", format="messages")


def test_a_source_without_files_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"dataset\[0\].source is file://.*: there is no file\. Check the path"):
        rows_of(tmp_path / "nothing")


def test_an_unreachable_hub_is_told_apart_from_bad_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(Unreachable, match=r"dataset\[0\].source is hf://owner/name: it could not be reached"):
        rows_of("hf://owner/name")


def test_a_document_is_held_back_for_what_it_says_alone(tmp_path: Path) -> None:
    dataset = Dataset(source="file:///x")
    (tmp_path / "a.jsonl").write_bytes(b"".join(json.dumps({"text": f"t {i}", "id": i}).encode() + b"\n" for i in range(2000)))
    files = dataset_files("d", Dataset(source=f"file://{tmp_path}/a.jsonl"))
    rows = list(read_rows("d", dataset, files))
    held = {row.values["text"] for row in rows if held_back(dataset, row, 0.1)}
    assert 120 < len(held) < 280
    assert held <= {row.values["text"] for row in rows if held_back(dataset, row, 0.2)}
    assert not any(held_back(dataset, row, 0.0) for row in rows)
    moved = [Row("another file, another row", {"text": row.values["text"], "id": "other"}) for row in rows]
    assert {row.values["text"] for row in moved if held_back(dataset, row, 0.1)} == held


def test_files_of_a_hub_repository_are_those_of_the_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the hub's own cache, which is all there is where the hub cannot be reached."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    repository = tmp_path / "datasets--owner--name"
    snapshot = repository / "snapshots" / ("a" * 40)
    for name in ("data/train-00000.jsonl", "data/train-00001.jsonl", "data/test-00000.jsonl", "README.md"):
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).write_text(json.dumps({"text": name}) + "\n")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    assert [row["text"] for row in rows_of("hf://owner/name")] == ["data/train-00000.jsonl", "data/train-00001.jsonl"]
    assert [row["text"] for row in rows_of("hf://owner/name", split="test")] == ["data/test-00000.jsonl"]
    assert [row["text"] for row in rows_of("hf://owner/name/data/train-00001.jsonl")] == ["data/train-00001.jsonl"]
    with pytest.raises(BadData, match=r"dataset\[0\].split is dev: no file of the repository is named after it"):
        rows_of("hf://owner/name", split="dev")


def test_batches_keep_every_row_in_order(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(JSONL)
    dataset = Dataset(source=f"file://{tmp_path}/a.jsonl")
    rows = list(read_rows("d", dataset, dataset_files("d", dataset)))
    assert [len(batch) for batch in in_batches(rows, 10, 100)] == [2, 2, 1]
    assert [len(batch) for batch in in_batches(rows, 10_000, 3)] == [3, 2]
    assert [row for batch in in_batches(rows, 10, 2) for row in batch] == rows
