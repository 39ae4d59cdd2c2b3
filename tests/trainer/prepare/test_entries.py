"""How a share of few long texts is held out: the end of each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtrain_trainer.config import Dataset
from llmtrain_trainer.data.sources.files import DataFile
from llmtrain_trainer.data.sources.readers import Row
from llmtrain_trainer.prepare.entries import FEWEST_HELD, DatasetEntry, tail_of


@given(text=st.text(st.sampled_from("ab \n"), min_size=1, max_size=300), share=st.floats(0.01, 0.5))
def test_both_parts_together_are_the_text(text: str, share: float) -> None:
    head, tail = tail_of(Row("a row 1", {"text": text}), "text", share)
    assert head.values["text"] + tail.values["text"] == text
    assert head.place == tail.place == "a row 1"


@pytest.mark.parametrize(
    ("text", "head"),
    [("one\ntwo\nthree\nfour", "one\ntwo\n"), ("one two three four", "one two "), ("x" * 18, "x" * 13)],
    ids=["at the end of a line", "at a space", "anywhere"],
)
def test_a_text_is_divided_where_it_does_least_harm(text: str, head: str) -> None:
    assert tail_of(Row("r", {"text": text}), "text", 0.3)[0].values["text"] == head


def entry(kind: str, count: int, **dataset: str) -> DatasetEntry:
    files = [DataFile(uri=f"file:///{i}.{kind}", name=f"{i}.{kind}", identity=()) for i in range(count)]
    return DatasetEntry("dataset[0]", Dataset.model_validate({"source": "file:///x", **dataset}), files)


@pytest.mark.parametrize(
    ("found", "split", "tails"),
    [
        (entry("txt", 3), 0.1, True),
        (entry("txt", 10 * FEWEST_HELD), 0.1, False),
        (entry("jsonl", 3), 0.1, False),
        (entry("txt", 3), 0.0, False),
    ],
    ids=["few texts", "texts enough", "rows", "nothing held out"],
)
def test_tails_are_held_out_only_of_texts_that_are_too_few_to_hold_out_whole_ones(found: DatasetEntry, split: float, tails: bool) -> None:
    assert found.holds_tails_back(split) is tails
