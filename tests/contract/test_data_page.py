"""docs/data.md: each row that it shows is read as it stands there, and taught as it says."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "trainer" / "data"))

import chat_kinds as kinds

from llmtrain_trainer.config import Dataset
from llmtrain_trainer.data.formats.cells import label_of
from llmtrain_trainer.data.sources.dataset import Row

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/data.md").read_text()
ROWS = [
    (name, row)
    for name, section in re.findall(r"^\*\*`(\w+)`\*\*(.*?)(?=^\*\*`|^## |^\| )", PAGE, re.DOTALL | re.MULTILINE)
    for block in re.findall(r"```json\n(.*?)```", section, re.DOTALL)
    for row in block.splitlines()
]
LABELLED = [row for name, row in ROWS if name == "textLabel"]
TAUGHT = [(name, row) for name, row in ROWS if row not in LABELLED]


@pytest.mark.parametrize(("name", "row"), TAUGHT, ids=[f"{name} {i}" for i, (name, _) in enumerate(TAUGHT)])
def test_a_row_that_the_page_shows_is_read_and_teaches_what_it_says(name: str, row: str) -> None:
    learned, ignored = kinds.learned_and_ignored(kinds.HYBRID, json.loads(row), format=name)
    messages = r'"role": "assistant"[^{}]*"content": "([^"]*)"(?!, "weight": 0)'
    said = rf'"(?:completion|text|output)": "([^"]*)"|{messages}|"from": "gpt", "value": "([^"]*)"|"answers": \["([^"]*)"'
    answer = re.findall(said, row)
    assert answer
    assert all("".join(found) in learned for found in answer)
    assert "Six." not in learned
    assert "What is two and two?" not in learned
    assert name == "text" or ignored


def test_the_labels_of_the_page_are_read() -> None:
    dataset, labels = Dataset(source="file:///x", format="textLabel"), ("negative", "positive")
    assert [label_of("dataset[0]", dataset, Row("f row 1", json.loads(row)), labels) for row in LABELLED] == [1, 0]


def test_every_format_has_rows_on_the_page_and_readers_are_led_there() -> None:
    from llmtrain_trainer.data.sources.wanted import COLUMN_KEYS

    assert {name for name, _ in ROWS} | {"lines", "tokens"} == set(COLUMN_KEYS)  # whose rows are lines of text, and ids
    assert re.search(r"\]\(docs/data\.md#rows\)", (ROOT / "README.md").read_text())
