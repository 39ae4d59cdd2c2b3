"""Pretraining: what stands in the stream, token by token, and what of it becomes rows."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from documents import document, table, training

from llmtrain_trainer.config.dataset import Truncate
from llmtrain_trainer.data.rows import open_rows, read_stats
from llmtrain_trainer.tasks import rows_writer


def written(directory: Path, documents: list[list[int]], length: int = 8) -> None:
    writer = rows_writer("pretrain", directory, training(length), Truncate())
    for one in documents:
        writer.add([document(one)])
    writer.finish()


def test_documents_stand_one_after_another_and_a_row_s_last_label_is_the_next_row_s_first_token(tmp_path: Path) -> None:
    written(tmp_path, [list(range(1, 6)), list(range(6, 18))])
    assert table(tmp_path, "tokens") == list(range(1, 18))
    rows = open_rows(tmp_path)
    taken = {name: values.tolist() for name, values in rows.take(np.array([1, 0])).items()}
    assert taken["input_ids"] == [list(range(9, 17)), list(range(1, 9))]
    assert taken["labels"] == [list(range(10, 18)), list(range(2, 10))]
    assert taken["position_ids"] == [list(range(8))] * 2
    assert rows.targets(np.array([0, 1])).tolist() == [8, 8]


@pytest.mark.parametrize(("tokens", "rows"), [(0, 0), (1, 0), (8, 0), (9, 1), (16, 1), (17, 2), (24, 2), (25, 3)])
def test_so_many_tokens_make_so_many_rows(tmp_path: Path, tokens: int, rows: int) -> None:
    written(tmp_path, [[5] * tokens] if tokens else [])
    stats = read_stats(tmp_path)
    assert (stats.rows, stats.targets, stats.tokens, len(open_rows(tmp_path))) == (rows, 8 * rows, tokens, rows)


def test_empty_documents_are_dropped_and_what_was_found_in_them_is_told(tmp_path: Path) -> None:
    writer = rows_writer("pretrain", tmp_path, training(8), Truncate())
    writer.add([document([2], said=0, found={"empty": 1}), document([7, 8, 2], ends=2, found={"odd": 2})])
    writer.add([document([9, 3], ends=3), document([4, 2], ends=2)])
    stats = writer.finish()
    assert (stats.documents, stats.dropped, stats.found) == (3, 1, {"empty": 1, "odd": 2})
    assert stats.ends == (2, 3), "the most frequent end first"
    assert table(tmp_path, "tokens") == [7, 8, 2, 9, 3, 4, 2]


def test_counts_are_of_every_token(tmp_path: Path) -> None:
    written(tmp_path, [[1, 1, 5], [0, 5, 5, 9]])
    assert table(tmp_path, "counts") == [1, 2, 0, 0, 0, 3, 0, 0, 0, 1]


@settings(max_examples=15)  # each writes files
@given(st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=9), max_size=6), st.integers(8, 12))
def test_the_digest_follows_the_tokens_and_not_how_they_came(
    tmp_path_factory: pytest.TempPathFactory, documents: list[list[int]], length: int
) -> None:
    one, other = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("other")
    written(one, documents, length)
    written(other, [[token] for each in documents for token in each], length)
    assert read_stats(one).digest == read_stats(other).digest
    if documents:
        written(other := tmp_path_factory.mktemp("changed"), [*documents[:-1], [*documents[-1][:-1], documents[-1][-1] + 1]], length)
        assert read_stats(one).digest != read_stats(other).digest
