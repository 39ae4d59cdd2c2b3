"""docs/add-a-thing.md: each kind of thing needs at most three files, and they are the ones that the page names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLACES = {"O": "operator/llmtrain_operator", "T": "trainer_image/llmtrain_trainer"}
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in (ROOT / "docs" / "add-a-thing.md").read_text().splitlines()
    if line.startswith(("| a ", "| an "))
]
SOURCES = {
    path: path.read_text()
    for place in PLACES.values()
    for path in sorted((ROOT / place).rglob("*.py"))
    if path.parent.parent.name != "recipes"  # the words of other trainers
}
WIDE = ("an engine", "a task", "a scheduler of gangs", "a kind of object in a cluster", "a field of the manifest")
"""Kinds whose example stands in more files: their own, and the readers of a field."""


def files_of(row: list[str]) -> list[Path]:
    return [ROOT / PLACES[name[0]] / name[2:] for name in re.findall(r"`([OT]/[\w/.]+)`", row[2])]


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_a_kind_needs_at_most_three_files_and_they_exist(row: list[str]) -> None:
    assert 1 <= len(files_of(row)) <= 3
    assert all(path.exists() for path in files_of(row))


@pytest.mark.parametrize("row", [row for row in ROWS if row[0] not in WIDE], ids=[row[0] for row in ROWS if row[0] not in WIDE])
def test_its_example_stands_in_no_other_file(row: list[str]) -> None:
    example = re.compile(rf"\b{re.escape(row[1].strip('`'))}\b")
    named = {path for path, text in SOURCES.items() if example.search(_code(text))}
    given = {"a reason for which an attempt ends": 1}.get(row[0], 0)  # the line that gives it
    assert len(named - set(files_of(row))) <= given, f"{sorted(str(path.relative_to(ROOT)) for path in named - set(files_of(row)))}"
    assert named & set(files_of(row))


def _code(text: str) -> str:
    """Without docstrings, which may name anything."""
    return re.sub(r'"""[\s\S]*?"""', "", text)
