"""Notices of a run: one sentence each, once, and never so many that none is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmtrain_trainer.run_dir.layout import RunDir, read_rows
from llmtrain_trainer.run_dir.notices import MOST, MOST_CHARACTERS, forget, tell, told


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path)


def test_white_space_makes_no_other_sentence(run: RunDir) -> None:
    for sentence in ("Rows were  cut.", " Rows\nwere\tcut. ", "Rows were cut.", "Rows were cut"):
        tell(run, sentence)
    assert told(run) == ("Rows were cut.", "Rows were cut")


def test_the_oldest_stand_first(run: RunDir) -> None:
    for sentence in ("b", "a", "c", "a"):
        tell(run, sentence)
    assert told(run) == ("b", "a", "c")


@pytest.mark.parametrize("count", [0, 1, MOST - 1, MOST, MOST + 1, MOST + 30])
def test_of_too_many_the_last_says_how_many_more_there_are(run: RunDir, count: int) -> None:
    for number in range(count):
        tell(run, f"notice {number}")
    found = told(run)
    assert len(found) == min(count, MOST)
    if count > MOST:
        assert found[-1] == f"{count - MOST + 1} more notices are in {run.notices}."
        assert found[-2] == f"notice {MOST - 2}", "and those before it are whole"
    else:
        assert list(found) == [f"notice {number}" for number in range(count)]
    assert len(list(read_rows(run.notices))) == count, "the file keeps all"


@pytest.mark.parametrize("length", [MOST_CHARACTERS - 1, MOST_CHARACTERS, MOST_CHARACTERS + 1, 5 * MOST_CHARACTERS])
def test_a_long_one_is_shortened_and_shows_that_it_is(run: RunDir, length: int) -> None:
    tell(run, "x" * length)
    (found,) = told(run)
    assert len(found) == min(length, MOST_CHARACTERS)
    assert found.endswith("...") is (length > MOST_CHARACTERS)


def test_two_long_ones_that_are_shortened_to_the_same_are_told_once(run: RunDir) -> None:
    for end in ("a", "b"):
        tell(run, "x" * MOST_CHARACTERS + end)
    assert len(told(run)) == 1 and len(list(read_rows(run.notices))) == 2


def test_an_earlier_starts_notices_are_forgotten(run: RunDir) -> None:
    forget(run)
    tell(run, "a")
    forget(run)
    assert told(run) == () and not run.notices.exists()


def test_a_torn_line_of_a_writer_that_died_is_no_notice(run: RunDir) -> None:
    tell(run, "a")
    with run.notices.open("a") as file:
        file.write('{"time": 1, "mess')
    tell(run, "b")
    assert told(run) == ("a", "b")
