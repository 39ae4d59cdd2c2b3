"""Rows of an embedding for tokens that were added: the mean of the others, in the weights that are named and in no other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from llmtrain_trainer.model import new_head, new_rows
from llmtrain_trainer.model.new_rows import NewRows

EMBEDDING = "model.embed_tokens.weight"


def test_rows_that_lack_are_the_mean_of_those_that_are_there() -> None:
    weight = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    grown = NewRows((EMBEDDING,), 4).added(EMBEDDING, weight)
    assert grown.tolist() == [[1.0, 2.0], [3.0, 6.0], [2.0, 4.0], [2.0, 4.0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_mean_is_taken_in_fp32_and_kept_in_the_dtype_of_the_files(dtype: torch.dtype) -> None:
    """Ten thousand rows of 8: their sum alone is beyond what 16 bits hold exactly, or at all."""
    grown = NewRows((EMBEDDING,), 10_001).added(EMBEDDING, torch.full((10_000, 1), 8.0, dtype=dtype))
    assert grown.dtype == dtype and grown.shape == (10_001, 1) and grown[-1].item() == 8.0


@pytest.mark.parametrize(("name", "rows"), [("model.norm.weight", 4), (EMBEDDING, 2), (EMBEDDING, 1)], ids=["another", "enough", "more"])
def test_a_weight_that_lacks_none_or_is_not_named_is_itself(name: str, rows: int) -> None:
    weight = torch.ones(2, 3)
    assert NewRows((EMBEDDING,), rows).added(name, weight) is weight


def test_what_preparation_wrote_is_read_and_without_a_file_nothing_is_added(tmp_path: Path) -> None:
    assert NewRows.of(tmp_path) == NewRows((), 0)
    made = NewRows((EMBEDDING, "lm_head.weight"), 77)
    (tmp_path / new_rows.FILE).write_text(made.text())
    assert NewRows.of(tmp_path) == made


def test_a_head_that_is_drawn_is_named_beside_the_files(tmp_path: Path) -> None:
    assert new_head.new_head(tmp_path) is None
    new_head.write_new_head(tmp_path, "score")
    assert new_head.new_head(tmp_path) == "score"
