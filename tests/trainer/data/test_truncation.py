"""What is cut of samples that are longer than a row."""

from __future__ import annotations

import numpy as np
import pytest

from llmtrain_trainer.data.truncation import fit


def kept(pattern: str, length: int, keep: int = 0) -> str:
    """`pattern` has a p for each position of a prompt and an a for each that is learned; b stands for a begin token."""
    cut = fit(np.array([letter == "a" for letter in pattern]), length, keep)
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
