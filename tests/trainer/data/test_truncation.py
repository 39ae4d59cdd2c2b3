"""What is cut of samples that are longer than a row."""

from __future__ import annotations

import numpy as np
import pytest
from small_job import Job, config_of

from llmtrain_trainer.data.truncation import fit
from llmtrain_trainer.run_dir.notices import told


def kept(pattern: str, length: int, keep: int = 0, reserve: int | None = None) -> str:
    """`pattern` has a p for each position of a prompt and an a for each that is learned; b stands for a begin token."""
    cut = fit(np.array([letter == "a" for letter in pattern]), length, keep, reserve)
    assert cut is not None
    left = pattern[: cut.head] + pattern[cut.start : cut.stop]
    assert cut.prompt == (left.count("p") < pattern[: cut.stop].count("p"))
    assert cut.answer == (left.count("a") < pattern.count("a"))
    return left


@pytest.mark.parametrize(
    ("pattern", "length", "expected"),
    [
        ("ppaa", 8, "ppaa"),
        ("ppppppaa", 5, "pppaa"),
        ("ppppppppaaaaaaaaaa", 8, "ppaaaaaa"),
        ("paaaaaaaaaaaa", 8, "paaaaaaa"),
        ("ppaappaappaa", 8, "ppaappaa"),
        ("ppppppppaapp" + "aa", 6, "ppppaa"),
        ("aaaaaaaa", 3, "aaa"),
    ],
)
def test_the_prompt_is_cut_from_the_left_so_that_the_first_answer_has_room(pattern: str, length: int, expected: str) -> None:
    assert kept(pattern, length) == expected


def test_the_begin_token_stays() -> None:
    assert kept("bppppppaa", 5, keep=1) == "bppaa"


def test_nothing_to_learn_is_left_out() -> None:
    assert fit(np.zeros(5, dtype=np.bool_), 3) is None


@pytest.mark.parametrize("length", [1, 2, 3, 7])
@pytest.mark.parametrize("prompt", [0, 1, 5, 40])
@pytest.mark.parametrize("answer", [1, 5, 40])
@pytest.mark.parametrize("keep", [0, 1])
def test_a_row_is_never_passed_and_an_answer_never_lost_whole(length: int, prompt: int, answer: int, keep: int) -> None:
    left = kept("p" * prompt + "a" * answer, length, keep)
    assert len(left) == min(length, prompt + answer)
    assert "a" in left


@pytest.mark.parametrize(
    ("pattern", "length", "reserve", "expected"),
    [
        ("ppppppppaaaaaaaaaa", 8, 3, "pppppaaa"),
        ("ppppppppaa", 8, 3, "ppppppaa"),
        ("ppaaaaaaaaaa", 8, 3, "ppaaaaaa"),
        ("ppppppppaaaaaaaaaa", 8, 8, "paaaaaaa"),
        ("ppaa", 8, 6, "ppaa"),
    ],
)
def test_so_many_tokens_are_reserved_for_the_answer_and_the_prompt_has_the_others(
    pattern: str, length: int, reserve: int, expected: str
) -> None:
    assert kept(pattern, length, reserve=reserve) == expected


def test_a_document_whose_prompt_would_be_cut_is_left_out_and_told_where_the_dataset_says_so(job: Job) -> None:
    rows = [{"prompt": "the model reads " * (200 if i % 4 == 0 else 1), "completion": f" token {i}"} for i in range(40)]
    given = {"source": job.rows_file("a.jsonl", rows), "format": "promptCompletion", "truncate": {"prompt": "drop"}}
    training = {"sequenceLength": 64, "packing": False}
    found = job.prepare(config_of([given], task="sft", training=training)).datasets[0].train
    assert (found.documents, found.prompts_cut) == (30, 0)
    assert any("10 documents have a prompt that leaves no room for the answer and were left out" in line for line in told(job.run))
    cut = job.prepare(config_of([{**given, "truncate": {"reserve": 16}}], task="sft", training=training)).datasets[0].train
    assert (cut.documents, cut.prompts_cut) == (40, 10)
