"""Several datasets: what an epoch of them is, and weights that change over steps."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_job import Job, config_of

from llmtrain_trainer.config import Mixing, TrainerConfig
from llmtrain_trainer.data.mixing.concatenation import Concatenation
from llmtrain_trainer.data.mixing.course import Course, CourseDataset, CourseStage
from llmtrain_trainer.data.mixing.course_index import CourseIndex
from llmtrain_trainer.data.mixing.epoch import epoch_samples
from llmtrain_trainer.data.mixing.order import Mixture
from llmtrain_trainer.data.mixing.succession import followed_by
from llmtrain_trainer.data.samples import open_samples
from llmtrain_trainer.run_dir.notices import told

untimed = settings(deadline=None)


def course_of(rows: list[int], weights: list[float], **more: Any) -> Course:
    """Datasets named by their place."""
    counted = rows if more.get("concat") else [0] * len(rows)
    parts = (CourseDataset(digest=str(i), weight=w, key=i, rows=n) for i, (n, w) in enumerate(zip(counted, weights, strict=True)))
    return Course(seed=1, parts=tuple(parts), **more)


def drawn(course: Course, start: int, stop: int) -> list[tuple[int, int]]:
    datasets, ordinals = CourseIndex(course).at(np.arange(start, stop))
    return list(zip(datasets.tolist(), ordinals.tolist(), strict=True))


@untimed
@given(st.lists(st.integers(1, 60), min_size=2, max_size=4), st.lists(st.sampled_from([0.2, 1.0, 3.0]), min_size=4, max_size=4))
def test_under_repeats_no_row_and_over_reads_every_row(rows: list[int], weights: list[float]) -> None:
    weights = weights[: len(rows)]
    samples, _ = Mixture(weights).at(np.arange(20_000))
    had = np.cumsum(samples[:, None] == np.arange(len(rows)), axis=0)
    assert epoch_samples("under", rows, weights) == int((had <= rows).all(axis=1).sum())
    assert epoch_samples("over", rows, weights) == int((had < rows).any(axis=1).sum()) + 1
    assert epoch_samples("concat", rows, weights) == epoch_samples(None, rows, weights) == sum(rows)


@untimed
@given(st.lists(st.integers(1, 60), min_size=1, max_size=4), st.integers(0, 400))
def test_a_concatenation_has_each_sample_once_an_epoch(rows: list[int], consumed: int) -> None:
    made = Concatenation(rows, 3)
    for epoch in range(2):
        datasets, ordinals = made.at(np.arange(epoch * sum(rows), (epoch + 1) * sum(rows)))
        found = sorted(zip(datasets.tolist(), ordinals.tolist(), strict=True))
        assert found == [(i, epoch * n + k) for i, n in enumerate(rows) for k in range(n)]
    datasets, _ = made.at(np.arange(consumed))
    assert made.counts(consumed) == np.bincount(datasets, minlength=len(rows)).tolist()


def test_the_epochs_of_a_concatenation_have_other_orders() -> None:
    made = Concatenation([20, 30], 3)
    assert made.at(np.arange(50))[0].tolist() != made.at(np.arange(50, 100))[0].tolist()


STAGES = (CourseStage(at=80, weights=(1.0, 3.0)), CourseStage(at=200, weights=(0.0, 1.0)))


def test_weights_change_at_their_sample_and_no_dataset_skips_or_repeats_one() -> None:
    found = drawn(course_of([50, 50], [1.0, 0.25], stages=STAGES), 0, 300)
    counts = [Counter(i for i, _ in found[a:b]) for a, b in ((0, 80), (80, 200), (200, 300))]
    assert counts == [{0: 64, 1: 16}, {0: 30, 1: 90}, {1: 100}]
    for dataset in (0, 1):
        own = [ordinal for i, ordinal in found if i == dataset]
        assert own == list(range(len(own)))


@untimed
@given(st.integers(0, 320))
def test_a_course_is_the_same_from_wherever_it_is_asked(consumed: int) -> None:
    course = course_of([50, 50], [1.0, 0.25], stages=STAGES)
    assert drawn(course, consumed, 330) == drawn(course, 0, 330)[consumed:]
    assert CourseIndex(course).counts(consumed) == [sum(i == each for i, _ in drawn(course, 0, consumed)) for each in (0, 1)]
    assert followed_by(course, course, consumed) == course


@pytest.mark.parametrize("consumed", [40, 80, 120])
def test_later_stages_of_another_batch_size_begin_at_their_step(consumed: int) -> None:
    """The steps before took 8 samples and those that follow take 4, so that what is ahead begins earlier."""
    course = course_of([50, 50], [1.0, 0.25], stages=STAGES)
    half = tuple(stage.model_copy(update={"at": stage.at // 2}) for stage in STAGES)
    now = course_of([50, 50], [1.0, 0.25], stages=half).later_by(consumed - consumed // 8 * 4)
    found = followed_by(course, now, consumed)
    assert [stage.at for stage in found.stages if stage.at > consumed] == [
        consumed + (stage.at - consumed) // 2 for stage in STAGES if stage.at > consumed
    ]
    assert CourseIndex(found).counts(consumed) == CourseIndex(course).counts(consumed)
    assert drawn(found, 0, consumed) == drawn(course, 0, consumed)
    own = [ordinal for i, ordinal in drawn(found, 0, 300) if i == 1]
    assert own == list(range(len(own)))


def test_other_weights_now_begin_a_course_in_which_datasets_continue() -> None:
    course = course_of([50, 50], [1.0, 0.25], stages=STAGES)
    found = followed_by(course, course_of([50, 50], [1.0, 0.25], stages=(CourseStage(at=80, weights=(1.0, 1.0)),)), 120)
    assert (found.start, [part.before for part in found.parts]) == (120, CourseIndex(course).counts(120))
    assert Counter(i for i, _ in drawn(found, 120, 160)) == {0: 20, 1: 20}


def two(job: Job, mixing: Mixing | None = None, **changes: Any) -> TrainerConfig:
    datasets = [{"source": job.text_file("a.jsonl", 60)}, {"source": job.text_file("b.jsonl", 30, 100)}]
    training = {"maxSteps": None, "epochs": 1, **changes.pop("training", {})}
    return config_of(datasets, mixing=mixing, training=training, mesh={"dp": 1, "stages": [[0, 2]]}, **changes)


@pytest.mark.parametrize("mixing", [None, "over", "under", "concat"])
def test_preparation_counts_an_epoch_and_says_it(job: Job, mixing: Mixing | None) -> None:
    prepared = job.prepare(two(job, mixing))
    rows = [dataset.train.rows for dataset in prepared.datasets]
    assert rows[0] > rows[1] > 8
    expected = {None: sum(rows), "concat": sum(rows), "under": 2 * rows[1], "over": 2 * rows[0] - 1}
    assert prepared.epoch_samples in ({expected["under"], expected["under"] + 1} if mixing == "under" else {expected[mixing]})
    assert prepared.target_steps == -(-prepared.epoch_samples // 8)
    assert any(f"of epochs of {prepared.epoch_samples}: they read dataset[0]" in said for said in job.said)
    assert any(f"mixing {mixing}: an epoch is {prepared.epoch_samples} samples" in line for line in told(job.run)) == (
        mixing in ("over", "under")
    )


def test_a_concatenated_epoch_trains_on_every_row_once(job: Job) -> None:
    config = two(job, "concat")
    prepared = job.prepare(config)
    one = config.model_copy(update={"batch": config.batch.model_copy(update={"accumulation": 4})})
    samples = open_samples(job.run.prepared, one, 0)
    seen = [row for step in range(prepared.train_samples // 8) for row in samples.step_batch(8 * step)["input_ids"].tolist()]
    assert len({tuple(row) for row in seen}) == len(seen) > 100


def test_the_entropy_of_a_curriculum_is_that_of_what_is_drawn(job: Job) -> None:
    steps = {"maxSteps": 8, "epochs": None}
    first = job.prepare(two(job, training=steps, curriculum=[{"fromStep": 2, "weights": [1, 0]}])).unigram_entropy
    other = job.prepare(two(job, training=steps, curriculum=[{"fromStep": 2, "weights": [0, 1]}])).unigram_entropy
    assert first != other
