"""Positions in the data across resumes: no sample of a dataset is skipped or repeated, whatever is added, removed or weighted anew."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtrain_trainer.data.mixing.course import Course, CourseDataset
from llmtrain_trainer.data.mixing.course_index import CourseIndex
from llmtrain_trainer.data.mixing.succession import followed_by

NAMES = "abcd"
DATASETS = st.dictionaries(st.sampled_from(NAMES), st.sampled_from([0.25, 0.5, 1.0, 3.0]), min_size=1, max_size=3)


def fresh(datasets: dict[str, float], seed: int = 1) -> Course:
    parts = tuple(CourseDataset(digest=name, weight=weight, key=key) for key, (name, weight) in enumerate(datasets.items()))
    return Course(seed=seed, parts=parts)


def drawn(course: Course, start: int, stop: int) -> list[tuple[str, int, int]]:
    """(dataset, key of its permutations, ordinal within it) of the samples from start to stop."""
    datasets, ordinals = CourseIndex(course).at(np.arange(start, stop))
    parts = course.parts
    return [(parts[i].digest, parts[i].key, ordinal) for i, ordinal in zip(datasets.tolist(), ordinals.tolist(), strict=True)]


@settings(max_examples=40)
@given(st.lists(st.tuples(DATASETS, st.integers(0, 30)), min_size=1, max_size=4))
def test_through_any_resumes_a_dataset_is_read_on_in_its_order_as_long_as_it_stays(rounds: list[tuple[dict[str, float], int]]) -> None:
    course, consumed = fresh(rounds[0][0]), 0
    seen: dict[str, list[int]] = {}
    keys: dict[str, int] = {}
    for datasets, samples in rounds:
        course = followed_by(course, fresh(datasets), consumed)
        assert [part.digest for part in course.parts] == list(datasets)
        assert len({part.key for part in course.parts}) == len(datasets), "no two share their permutations"
        seen = {name: seen.get(name, []) for name in datasets}
        keys = {part.digest: keys.get(part.digest, part.key) for part in course.parts}
        for name, key, ordinal in drawn(course, consumed, consumed + samples):
            assert key == keys[name]
            seen[name].append(ordinal)
        consumed += samples
        assert all(found == list(range(len(found))) for found in seen.values())


@given(DATASETS, st.integers(0, 60))
def test_a_course_counts_what_it_gave(datasets: dict[str, float], consumed: int) -> None:
    course = fresh(datasets)
    given_ = Counter(name for name, _, _ in drawn(course, 0, consumed))
    assert CourseIndex(course).counts(consumed) == [given_[name] for name in datasets] and course.passed(consumed) == consumed


@given(DATASETS, st.integers(0, 40), st.integers(0, 40))
def test_the_same_run_keeps_its_course(datasets: dict[str, float], consumed: int, more: int) -> None:
    course = fresh(datasets)
    assert followed_by(course, fresh(datasets), consumed) is course
    changed = followed_by(course, fresh({**datasets, "z": 1.0}), consumed)
    assert followed_by(changed, fresh({**datasets, "z": 1.0}), consumed + more) is changed


def test_another_seed_begins_every_dataset_again() -> None:
    course = followed_by(fresh({"a": 1.0, "b": 1.0}), fresh({"a": 1.0, "b": 1.0}, seed=2), 10)
    assert (course.seed, course.start, [part.before for part in course.parts]) == (2, 10, [0, 0])
    assert course.passed(10) == 0 and course.passed(14) == 4


def test_other_weights_alone_lose_no_place() -> None:
    course = followed_by(fresh({"a": 1.0, "b": 1.0}), fresh({"a": 3.0, "b": 1.0}), 10)
    assert [(part.before, part.key, part.weight) for part in course.parts] == [(5, 0, 3.0), (5, 1, 1.0)]
    assert CourseIndex(course).counts(14) == [8, 6]


def test_a_dataset_that_is_there_twice_has_two_places() -> None:
    twice = Course(seed=1, parts=(CourseDataset(digest="a", weight=1.0, key=0), CourseDataset(digest="a", weight=3.0, key=1)))
    now = Course(seed=1, parts=(*twice.parts, CourseDataset(digest="b", weight=1.0, key=2)))
    assert [(part.key, part.before) for part in followed_by(twice, now, 8).parts] == [(0, 2), (1, 6), (2, 0)]


def test_what_is_new_never_shares_the_permutations_of_what_was() -> None:
    course = followed_by(fresh({"a": 1.0, "b": 1.0}), fresh({"b": 1.0, "c": 1.0, "d": 1.0}), 4)
    assert [(part.digest, part.key) for part in course.parts] == [("b", 1), ("c", 2), ("d", 3)]


@pytest.mark.parametrize("order", [["a", "b"], ["b", "a"]])
def test_the_order_of_the_manifest_does_not_decide_who_continues(order: list[str]) -> None:
    course = followed_by(fresh({"a": 1.0, "b": 3.0}), fresh({name: {"a": 1.0, "b": 3.0}[name] for name in order} | {"c": 1.0}), 8)
    assert {part.digest: part.before for part in course.parts} == {"a": 2, "b": 6, "c": 0}
