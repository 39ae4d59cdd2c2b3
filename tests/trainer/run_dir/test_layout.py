"""Files that several processes write and read at once: whole or not there, line by line."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtrain_trainer.run_dir.layout import RunDir, append_row, parse_row, read_rows, write_atomically

ROWS = st.lists(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=8) | st.none(), max_size=3), max_size=6)


def test_every_file_of_a_run_has_a_place_of_its_own(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    places = [getattr(run, name) for name, value in vars(RunDir).items() if isinstance(value, property)]
    places += [run.heartbeat(0), run.heartbeat(10), run.error(0), run.error(10)]
    assert len(set(places)) == len(places) and all(place.is_relative_to(tmp_path) for place in places)
    assert not list(tmp_path.iterdir()), "it creates nothing"


def test_a_write_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.json"
    for text in ("long before", "é"):
        write_atomically(path, text)
    assert path.read_text() == "é" and [each.name for each in path.parent.iterdir()] == ["file.json"]


def test_a_reader_sees_one_whole_text_or_another(tmp_path: Path) -> None:
    path = tmp_path / "file"
    texts = {letter * 50_000 for letter in "ab"}
    write_atomically(path, "a" * 50_000)

    def write(_: int) -> None:
        for text in sorted(texts) * 20:
            write_atomically(path, text)

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write, 0)
        while not writing.done():
            assert path.read_text() in texts


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "before")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\ud800")
    assert path.read_text() == "before"


@settings(max_examples=25)  # each writes files
@given(ROWS)
def test_rows_are_read_as_they_were_appended(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]]) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    for row in rows:
        append_row(path, json.dumps(row))
    assert list(read_rows(path)) == rows


def test_lines_of_several_writers_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"

    def write(writer: int) -> None:
        for number in range(50):
            append_row(path, json.dumps({"writer": writer, "number": number, "text": "x" * 500}))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    found = [(row["writer"], row["number"]) for row in read_rows(path)]
    assert len(found) == 200 and sorted(found) == [(writer, number) for writer in range(4) for number in range(50)]


@settings(max_examples=25)  # each writes files
@given(st.integers(0, 40))
def test_a_writer_that_died_in_a_line_costs_that_line_alone(tmp_path_factory: pytest.TempPathFactory, kept: int) -> None:
    path = tmp_path_factory.mktemp("torn") / "rows.jsonl"
    append_row(path, '{"step": 1}')
    whole = b'{"step": 2, "text": "some more of it here"}\n'
    with path.open("ab") as file:
        file.write(whole[:kept])
    assert list(read_rows(path)) == [{"step": 1}], "an incomplete end is not there yet"
    append_row(path, '{"step": 3}')
    assert list(read_rows(path)) == [{"step": 1}, {"step": 3}]


def test_of_a_file_that_is_not_there_there_are_no_rows(tmp_path: Path) -> None:
    assert list(read_rows(tmp_path / "absent")) == []


@pytest.mark.parametrize(
    ("line", "row"),
    [
        (b'{"a": 1}\n', {"a": 1}),
        (b'{"a": 1', None),
        (b"[1, 2]\n", None),
        (b"3\n", None),
        (b"null\n", None),
        (b"\n", None),
        (b"\xff\xfe\n", None),
        (b'{"a": NaN}\n', {"a": pytest.approx(float("nan"), nan_ok=True)}),
    ],
)
def test_a_line_is_a_row_or_nothing(line: bytes, row: dict[str, object] | None) -> None:
    assert parse_row(line) == row
