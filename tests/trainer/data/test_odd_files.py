"""Files of every kind with random damage: each is read, or refused with its name; nothing else happens. `make fuzz` tries many."""

from __future__ import annotations

import gzip
import io
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet
import pytest

from llmtrain_trainer.config import Dataset
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.sources.dataset import dataset_files, read_rows

COUNT = int(os.environ.get("LLMTRAIN_ODD_FILES", "40"))
ROWS = [{"text": f"row {i}: the model reads “text” and \U0001f600\n", "messages": [{"role": "user", "content": str(i)}]} for i in range(60)]
LINES = "".join(json.dumps(row, ensure_ascii=bool(i % 2)) + "\n" for i, row in enumerate(ROWS)).encode()


def parquet(compression: str, dictionary: bool) -> bytes:
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pa.Table.from_pylist(ROWS), buffer, compression=compression, use_dictionary=dictionary, row_group_size=20)
    return buffer.getvalue()


def arrow() -> bytes:
    buffer, table = io.BytesIO(), pa.Table.from_pylist(ROWS)
    with pa.ipc.new_stream(buffer, table.schema) as writer:
        writer.write_table(table, max_chunksize=20)
    return buffer.getvalue()


WHOLE: dict[str, bytes] = {
    "a.jsonl": LINES,
    "a.json": json.dumps(ROWS).encode(),
    "a.csv": b"id,text\r\n" + b"".join(b'%d,"say ""%d"", and more"\r\n' % (i, i) for i in range(60)),
    "a.txt": LINES,
    "a.jsonl.gz": gzip.compress(LINES),
    "a.csv.gz": gzip.compress(b"id,text\n" + b"1,x\n" * 500),
    "a.jsonl.zst": pa.compress(LINES, codec="zstd", asbytes=True),
    "a.parquet": parquet("snappy", dictionary=True),
    "b.parquet": parquet("zstd", dictionary=False),
    "c.parquet": parquet("gzip", dictionary=True),
    "d.parquet": parquet("none", dictionary=False),
    "a.arrow": arrow(),
}


def flip(random: Random, content: bytearray) -> None:
    for _ in range(random.choice([1, 1, 2, 8, 64])):
        content[random.randrange(len(content))] = random.randrange(256)


def cut(random: Random, content: bytearray) -> None:
    del content[random.randrange(len(content)) :]


def drop(random: Random, content: bytearray) -> None:
    start = random.randrange(len(content))
    del content[start : start + random.randrange(1, 200)]


def repeat(random: Random, content: bytearray) -> None:
    start = random.randrange(len(content))
    content[start:start] = content[start : start + random.randrange(1, 200)] * random.choice([1, 3, 1000])


def insert(random: Random, content: bytearray) -> None:
    odd = [b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b'"', b"\r", b"[" * 5000, b"{", b"1" * 5000, b"\\ud800", b"null\n", b"NaN", b"\xf0\x9f"]
    at = random.randrange(len(content))
    content[at:at] = random.choice(odd)


DAMAGE: tuple[Callable[[Random, bytearray], None], ...] = (flip, cut, drop, repeat, insert)


def outcome(path: Path) -> str:
    dataset = Dataset(source=f"file://{path}")
    try:
        list(read_rows("dataset[0]", dataset, dataset_files("dataset[0]", dataset)))
    except BadData as error:
        assert path.name in str(error) or "columns" in str(error)
        assert str(error).startswith("spec.dataset[0].")
        return "refused"
    return "read"


@pytest.mark.parametrize("name", WHOLE)
def test_a_damaged_file_is_read_or_refused_with_its_name(tmp_path: Path, name: str) -> None:
    random, counts = Random(name), Counter[str]()
    for _ in range(COUNT):
        content = bytearray(WHOLE[name])
        for damage in random.choices(DAMAGE, k=random.choice([1, 1, 2])):
            if content:
                damage(random, content)
        (tmp_path / name).write_bytes(content)
        counts[outcome(tmp_path / name)] += 1
    print(f"{name}: {COUNT} tried, {counts['refused']} refused, {counts['read']} read, 0 crashed")
    assert counts["refused"]


def test_a_batch_that_asks_for_more_memory_than_there_is_is_refused_as_a_file(tmp_path: Path) -> None:
    column, written = pa.array(range(1000), pa.int64()), io.BytesIO()
    with pa.ipc.new_stream(written, pa.schema([("text", pa.int64())]), options=pa.ipc.IpcWriteOptions(compression="zstd")) as sink:
        sink.write_batch(pa.record_batch([column], names=["text"]))
    unpacked = (8000).to_bytes(8, "little")
    assert written.getvalue().count(unpacked) == 1
    (tmp_path / "a.arrow").write_bytes(written.getvalue().replace(unpacked, (1 << 60).to_bytes(8, "little")))
    dataset = Dataset(source=f"file://{tmp_path}/a.arrow")
    with pytest.raises(BadData, match=r"a\.arrow: its next batch needs more memory than there is .*fewer rows in a batch"):
        list(read_rows("dataset[0]", dataset, dataset_files("dataset[0]", dataset)))
