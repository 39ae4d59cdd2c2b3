"""Rows that are both trained on and evaluated are told by the plan, whatever slices, directories and patterns name them."""

from __future__ import annotations

from typing import Any

import pytest

from llmtrain_operator.plan.checks.overlap import overlap
from llmtrain_trainer.config import Dataset
from llmtrain_trainer.config.tables.slices import share_rows, slice_of

SLICES = {
    ("train", "train"): True,
    ("train", "train[90%:]"): True,
    ("train[:]", "train[5:6]"): True,
    ("train[:90%]", "train[90%:]"): False,
    ("train[:91%]", "train[90%:]"): True,
    ("train[:-10%]", "train[-10%:]"): False,
    ("train[:-10%]", "train[85%:]"): True,
    ("train[10%:20%]", "train[-90%:-80%]"): True,
    ("train[:1000]", "train[1000:]"): False,
    ("train[:1000]", "train[999:]"): True,
    ("train[100:200]", "train[:100]"): False,
    ("train[:-100]", "train[-100:]"): False,
    ("train[:-99]", "train[-100:]"): True,
    ("train[-200:-100]", "train[-100:]"): False,
    ("train[:1000]", "train[90%:]"): None,
    ("train[100:]", "train[-100:]"): None,
    ("train[-10%:]", "train[-100:]"): None,
}


@pytest.mark.parametrize("names", SLICES, ids=" ".join)
def test_slices_overlap_as_their_rows_do(names: tuple[str, str]) -> None:
    one, other = map(slice_of, names)
    assert share_rows(one, other) is SLICES[names]
    assert share_rows(other, one) is SLICES[names]


@pytest.mark.parametrize("names", [names for names, shared in SLICES.items() if shared is not None], ids=" ".join)
def test_what_is_said_of_slices_holds_for_rows_that_are_there(names: tuple[str, str]) -> None:
    taken = [set(range(2000)[part.rows(2000).start : part.rows(2000).stop]) for part in map(slice_of, names)]
    assert bool(taken[0] & taken[1]) is SLICES[names]


def pair(trained: dict[str, Any], evaluated: dict[str, Any]) -> bool | None:
    base = {"source": "s3://b/d"}
    return overlap(Dataset.model_validate(base | trained), Dataset.model_validate(base | evaluated))


@pytest.mark.parametrize(
    ("trained", "evaluated", "shared"),
    [
        ({}, {"split": "train[90%:]"}, True),
        ({"split": "train[:90%]"}, {"split": "train[90%:]"}, False),
        ({}, {"split": "test"}, True),
        ({"source": "hf://o/d"}, {"source": "hf://o/d", "split": "test"}, False),
        ({"source": "hf://o/d"}, {"source": "hf://o/d", "split": "train[:5%]"}, True),
        ({"source": "hf://o/d", "subset": "a"}, {"source": "hf://o/d", "subset": "b"}, False),
        ({"source": "hf://o/d", "subset": "a"}, {"source": "hf://o/d", "subset": "a"}, True),
        ({"source": "hf://o/d"}, {"source": "hf://o/e"}, False),
        ({}, {"source": "s3://b/d/test.jsonl"}, True),
        ({}, {"source": "s3://b/d-test"}, False),
        ({"source": "s3://b/d/"}, {"source": "s3://b/d/sub/x.jsonl"}, True),
        ({"source": "s3://b/*.jsonl"}, {"source": "s3://b/val.jsonl"}, True),
        ({"source": "s3://b/train-*.jsonl"}, {"source": "s3://b/val.jsonl"}, False),
        ({}, {"source": "s3://b/d/x.jsonl", "split": "train[90%:]"}, None),
        ({"where": "fold != 3"}, {"where": "fold == 3"}, None),
        ({"where": "a", "maxSamples": 10}, {"where": "b", "split": "train[10:]"}, None),
        ({"where": "rating > 3"}, {"where": "rating > 2"}, None),
        ({"where": "a", "split": "train[:10%]"}, {"where": "b", "split": "train[10%:]"}, False),
        ({}, {"where": "fold == 3"}, True),
        ({"where": "fold == 3"}, {"where": "fold == 3"}, True),
        ({"maxSamples": 1000}, {"split": "train[1000:]"}, False),
        ({"maxSamples": 1001}, {"split": "train[1000:]"}, True),
        ({"maxSamples": 100, "split": "train[50%:]"}, {"split": "train[:50%]"}, False),
    ],
)
def test_what_is_trained_on_and_evaluated(trained: dict[str, Any], evaluated: dict[str, Any], shared: bool | None) -> None:
    assert pair(trained, evaluated) is shared
