"""How many steps a run has: from its start, and from a checkpoint with another batch size or other data."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_job import config_of

from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.data.target import target_steps


def config(**training: object) -> TrainerConfig:
    return config_of([{"source": "file:///data.jsonl"}], training=training)


def epochs(count: float) -> TrainerConfig:
    return config(maxSteps=None, epochs=count)


BATCH = epochs(1).training.global_batch_size


def test_max_steps_is_taken_whatever_the_data_and_the_checkpoint() -> None:
    assert target_steps(config(maxSteps=7), 10**9, done=3, passed=100) == 7


@given(samples=st.integers(1, 10**6), count=st.sampled_from([0.1, 0.5, 1.0, 1.7, 3.0]))
def test_the_steps_of_some_epochs_see_each_row_that_often_and_stop_within_a_batch(samples: int, count: float) -> None:
    seen, wanted = target_steps(epochs(count), samples) * BATCH, Fraction(repr(count)) * samples
    assert wanted <= seen < wanted + BATCH


@given(samples=st.integers(1, 10**5), done=st.integers(0, 1000))
def test_a_run_that_resumes_with_the_same_batch_has_the_target_that_it_had(samples: int, done: int) -> None:
    whole = target_steps(epochs(2.0), samples)
    done = min(done, whole)
    assert target_steps(epochs(2.0), samples, done=done, passed=done * BATCH) == whole


def test_samples_that_were_consumed_in_smaller_batches_count_as_samples() -> None:
    assert target_steps(epochs(1.0), 10 * BATCH, done=8, passed=4 * BATCH) == 8 + 6


def test_a_run_that_has_seen_more_than_its_epochs_is_done_where_it_is() -> None:
    assert target_steps(epochs(1.0), BATCH, done=5, passed=5 * BATCH) == 5


def test_a_tenth_is_a_tenth_and_not_the_nearest_binary_fraction() -> None:
    assert target_steps(epochs(0.1), 30 * BATCH) == 3 == math.ceil(Fraction(1, 10) * 30)


def test_a_run_without_an_end_is_refused() -> None:
    with pytest.raises(BadData, match="the length of the training is not known"):
        target_steps(config(maxSteps=None), 10)
