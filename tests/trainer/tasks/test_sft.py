"""Fine-tuning: each row against the token ids, labels and positions that it must have."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from documents import document, table, training

from llmtrain_trainer.config.dataset import Truncate
from llmtrain_trainer.data.formats.encoding import Encoded
from llmtrain_trainer.data.rows import SetStats
from llmtrain_trainer.tasks import rows_writer

NO = -100


def written(directory: Path, documents: list[Encoded], length: int = 8, truncate: Truncate | None = None, **changes: Any) -> SetStats:
    writer = rows_writer("sft", directory, training(length, **changes), truncate or Truncate())
    writer.add(documents)
    return writer.finish()


def rows_of(directory: Path) -> list[tuple[list[int], list[int], list[int]]]:
    return list(zip(*(table(directory, name) for name in ("input_ids", "labels", "position_ids")), strict=True))


def test_a_sample_predicts_its_answer_alone_and_is_filled_up(tmp_path: Path) -> None:
    stats = written(tmp_path, [document([1, 11, 12, 21, 22, 2], "...xxx", conversation=True, bos=True, ends=2)])
    assert rows_of(tmp_path) == [([1, 11, 12, 21, 22, 0, 0, 0], [NO, NO, 21, 22, 2, NO, NO, NO], [0, 1, 2, 3, 4, 0, 1, 2])]
    assert table(tmp_path, "targets") == [3]
    assert (stats.tokens, stats.targets, stats.documents, stats.longest, stats.ends) == (6, 3, 1, 5, (2,))


def test_short_samples_share_a_row_and_each_has_positions_of_its_own(tmp_path: Path) -> None:
    samples = [document([1, 2, 3, 4], "..xx"), document([5, 6, 7], ".xx"), document([8, 9, 10, 11], ".xxx")]
    written(tmp_path, samples)
    assert rows_of(tmp_path) == [([1, 2, 3, 5, 6, 8, 9, 10], [NO, 3, 4, 6, 7, 9, 10, 11], [0, 1, 2, 0, 1, 0, 1, 2])]
    assert table(tmp_path, "targets") == [7]


def test_without_packing_each_sample_has_its_row(tmp_path: Path) -> None:
    stats = written(tmp_path, [document([1, 2, 3], ".xx"), document([5, 6], ".x")], packing=False)
    assert [row[0] for row in rows_of(tmp_path)] == [[1, 2, 0, 0, 0, 0, 0, 0], [5, 0, 0, 0, 0, 0, 0, 0]]
    assert (stats.rows, table(tmp_path, "targets")) == (2, [2, 1])


def test_a_sample_as_long_as_the_row_is_whole_and_one_longer_is_cut(tmp_path: Path) -> None:
    ids = list(range(1, 11))
    stats = written(tmp_path, [document(ids[:9], "." + "x" * 8), document(ids, "." + "x" * 9)])
    assert [row[:2] for row in rows_of(tmp_path)] == [(ids[:8], ids[1:9])] * 2
    assert (stats.truncated, stats.answers_cut, stats.prompts_cut, stats.longest) == (1, 1, 0, 9)


def test_a_long_prompt_loses_its_beginning_but_not_the_begin_token(tmp_path: Path) -> None:
    ids = [1, *range(11, 21), 31, 32, 2]
    stats = written(tmp_path, [document(ids, "." * 11 + "xxx", conversation=True, bos=True)])
    assert rows_of(tmp_path) == [([1, 16, 17, 18, 19, 20, 31, 32], [NO] * 5 + [31, 32, 2], list(range(8)))]
    assert (stats.truncated, stats.prompts_cut, stats.answers_cut, stats.conversations) == (1, 1, 0, 1)


def test_a_prompt_that_would_be_cut_drops_its_sample_where_the_dataset_says_so(tmp_path: Path) -> None:
    long = document([*range(11, 21), 31, 2], "." * 10 + "xx", conversation=True)
    short = document([11, 31, 2], ".xx", conversation=True)
    stats = written(tmp_path, [long, short], truncate=Truncate(prompt="drop"))
    assert [row[0][:2] for row in rows_of(tmp_path)] == [[11, 31]]
    assert (stats.documents, stats.found) == (1, {"prompt dropped": 1})


@pytest.mark.parametrize(
    "empty", [document([1, 2, 3], "..."), document([1, 2], ".x", said=0), document([7], "x")], ids=["no answer", "nothing said", "a token"]
)
def test_what_has_nothing_to_learn_is_left_out_and_counted(tmp_path: Path, empty: Encoded) -> None:
    stats = written(tmp_path, [empty, document([5, 6], ".x")])
    assert (stats.dropped, stats.documents, len(rows_of(tmp_path))) == (1, 1, 1)


def test_counts_are_of_what_is_learned(tmp_path: Path) -> None:
    written(tmp_path, [document([4, 4, 4, 2], "..xx"), document([9, 2], ".x")])
    assert table(tmp_path, "counts") == [0, 0, 2, 0, 1]


def test_no_draft_stays(tmp_path: Path) -> None:
    written(tmp_path, [document([5, 6], ".x")])
    assert {path.name for path in tmp_path.iterdir()} == {
        "input_ids.npy", "labels.npy", "position_ids.npy", "targets.npy", "counts.npy", "set.json",
    }  # fmt: skip


def test_of_no_sample_there_are_no_rows_but_whole_files(tmp_path: Path) -> None:
    stats = written(tmp_path, [])
    assert (stats.rows, stats.fitting) == (0, (0, 0)) and np.load(tmp_path / "input_ids.npy").shape == (0, 8)


SAMPLES = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 5)), min_size=1, max_size=30)


@settings(max_examples=20)  # each writes files
@given(SAMPLES, st.booleans())
def test_every_target_of_every_sample_stands_in_the_rows_once(
    tmp_path_factory: pytest.TempPathFactory, samples: list[tuple[int, int]], packing: bool
) -> None:
    """Samples of (prompt, answer) tokens, each token its own id: none is lost, none doubled, each after its own prompt."""
    documents, following, first = list[Encoded](), dict[int, int](), 1
    for prompt, answer in samples:
        ids = list(range(first, first + prompt + answer))
        first += len(ids)
        documents.append(document(ids, "." * prompt + "x" * answer))
        following |= {token: token + 1 for token in ids[prompt - 1 : -1]}
    directory = tmp_path_factory.mktemp("rows")
    stats = written(directory, documents, 12, packing=packing)
    found: dict[int, int] = {}
    for ids, labels, positions in rows_of(directory):
        for at, (token, label) in enumerate(zip(ids, labels, strict=True)):
            if label != NO:
                assert token not in found
                found[token] = label
            assert positions[at] in (0, positions[at - 1] + 1 if at else 0)
    assert found == following and stats.targets == len(following)
