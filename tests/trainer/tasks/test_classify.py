"""Classification: one label a document, where transformers will read it, and no other target."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from documents import document, table, training

from llmtrain_trainer.config.dataset import Truncate
from llmtrain_trainer.data.formats.encoding import Encoded, Labelled
from llmtrain_trainer.data.rows import SetStats
from llmtrain_trainer.tasks import rows_writer
from llmtrain_trainer.tasks.classify import cut, last_token

NO, PAD = -100, 0


def labelled(ids: Sequence[int], label: int, suffix: int = 0, pad: int = PAD, **changes: object) -> Encoded:
    return document(ids, labelled=Labelled(label=label, suffix=suffix, pad=pad), **changes)


def written(directory: Path, documents: list[Encoded], length: int = 8) -> SetStats:
    writer = rows_writer("classify", directory, training(length), Truncate())
    writer.add(documents)
    return writer.finish()


def test_the_label_stands_at_the_last_token_of_its_document(tmp_path: Path) -> None:
    stats = written(tmp_path, [labelled([11, 12, 2], 1), labelled([21], 0)])
    assert table(tmp_path, "input_ids") == [[11, 12, 2, 0, 0, 0, 0, 0], [21, 0, 0, 0, 0, 0, 0, 0]]
    assert table(tmp_path, "labels") == [[NO, NO, 1] + [NO] * 5, [0] + [NO] * 7]
    assert table(tmp_path, "position_ids") == [list(range(8))] * 2
    assert (table(tmp_path, "targets"), table(tmp_path, "counts")) == ([1, 1], [1, 1])
    assert (stats.rows, stats.targets, stats.documents, stats.tokens, stats.longest) == (2, 2, 2, 4, 3)


def test_a_document_that_ends_in_the_padding_token_has_its_label_where_transformers_looks(tmp_path: Path) -> None:
    written(tmp_path, [labelled([11, 12, 2], 1, pad=2)])
    assert table(tmp_path, "labels")[0].index(1) == 1


def test_a_long_document_loses_the_end_of_its_text_and_keeps_what_stands_behind_every_text(tmp_path: Path) -> None:
    stats = written(tmp_path, [labelled([*range(11, 22), 2], 1, suffix=1)])
    assert table(tmp_path, "input_ids") == [[*range(11, 18), 2]]
    assert table(tmp_path, "labels") == [[NO] * 7 + [1]]
    assert (stats.truncated, stats.answers_cut, stats.tokens, stats.longest) == (1, 1, 8, 12)


@pytest.mark.parametrize("odd", [document([1, 2]), labelled([1, 2], 0, said=0)], ids=["no label", "no text"])
def test_a_document_without_label_or_text_is_dropped_and_told(tmp_path: Path, odd: Encoded) -> None:
    stats = written(tmp_path, [odd, labelled([5], 2, found={"odd": 3})])
    assert (stats.dropped, stats.rows, stats.found) == (1, 1, {"odd": 3})
    assert table(tmp_path, "counts") == [0, 0, 1]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20), st.integers(2, 12), st.integers(0, 2), st.integers(0, 3))
def test_what_is_kept_fits_and_its_last_token_is_the_last_that_is_no_padding(ids: list[int], length: int, suffix: int, pad: int) -> None:
    suffix = min(suffix, len(ids), length)
    kept = cut(np.array(ids, np.int32), length, suffix).tolist()
    assert len(kept) == min(len(ids), length)
    assert kept[: len(kept) - suffix] == ids[: len(kept) - suffix] and kept[len(kept) - suffix :] == ids[len(ids) - suffix :]
    at = last_token(np.array(kept), pad)
    assert all(token == pad for token in kept[at + 1 :])
    assert kept[at] != pad or (at == 0 and set(kept) == {pad})
