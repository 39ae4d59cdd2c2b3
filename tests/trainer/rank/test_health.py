"""When training is worth saving."""

from __future__ import annotations

import math

import pytest
import torch

from llmtrain_trainer.engines.engine import StepResult
from llmtrain_trainer.engines.native.gradients import all_finite
from llmtrain_trainer.rank.health import Health


def result(loss: float = 2.0, norm: float = 1.0, skipped: bool = False) -> StepResult:
    return StepResult(loss=loss, grad_norm=norm, stop=False, skipped=skipped)


@pytest.mark.parametrize("bad", [result(loss=math.nan), result(loss=math.inf), result(norm=math.nan), result(norm=math.inf)])
def test_a_step_that_is_not_finite_is_not_sound_and_is_told(bad: StepResult) -> None:
    health = Health(limit=3)
    said = health.judge(7, bad, None)
    assert said is not None and "Step 7" in said and not health.sound
    assert health.over(7, last=False) is None


def test_as_many_in_a_row_as_the_limit_end_training() -> None:
    health = Health(limit=3)
    for number in (1, 2, 3):
        health.judge(number, result(loss=math.nan), None)
    assert "last 3 steps up to step 3" in (health.over(3, last=False) or "")


def test_a_good_step_between_begins_the_count_anew() -> None:
    health = Health(limit=2)
    for number, loss in enumerate([math.nan, 2.0, math.nan, 2.0], 1):
        health.judge(number, result(loss=loss), None)
        assert health.over(number, last=False) is None
    assert health.sound


def test_a_step_that_was_left_out_is_told_as_such() -> None:
    assert "its update was skipped" in (Health(limit=3).judge(1, result(norm=math.inf, skipped=True), None) or "")


def test_an_evaluation_that_is_not_finite_is_not_saved() -> None:
    health = Health(limit=3)
    assert "evaluation after step 4" in (health.judge(4, result(), math.nan) or "")
    assert not health.sound and health.over(4, last=False) is None
    health.judge(5, result(), None)
    assert health.sound


def test_a_loss_far_above_its_lowest_is_told_once_and_marks_the_saves() -> None:
    health = Health(limit=3)
    said = [health.judge(number, result(loss=loss), None) for number, loss in enumerate([6.6, 6.0, 5.0, 1885.0, 316.0, 316.0], 1)]
    assert [index for index, sentence in enumerate(said, 1) if sentence] == [4] and "training diverges" in str(said[3])
    assert health.diverged and health.sound


def test_a_loss_that_comes_back_is_told_too() -> None:
    health = Health(limit=3)
    losses = [5.0, 5.0, 5.0, 5.0, 5.0, *[40.0] * 5, *[5.0] * 10]
    said = [sentence for number, loss in enumerate(losses, 1) if (sentence := health.judge(number, result(loss=loss), None))]
    assert (
        len(said) == 2 and "If the loss is still high at the last step, nothing is exported" in said[0] and "The loss is back at" in said[1]
    )
    assert not health.diverged and health.over(len(losses), last=True) is None


def test_a_noisy_batch_is_no_divergence() -> None:
    health = Health(limit=3)
    for number, loss in enumerate([2.0, 1.9, 2.4, 1.8, 4.0, 1.9, 0.4, 1.2, 0.3], 1):
        assert health.judge(number, result(loss=loss), None) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_one_odd_element_of_any_type_is_found(dtype: torch.dtype, odd: float) -> None:
    tensors = [torch.ones(3, 4, dtype=dtype), torch.zeros(0, dtype=dtype), torch.ones(5, dtype=dtype)]
    assert all_finite(tensors) and all_finite([])
    tensors[2][3] = odd
    assert not all_finite(tensors)


def test_the_largest_finite_number_is_finite() -> None:
    assert all_finite([torch.full((9,), torch.finfo(dtype).max, dtype=dtype) for dtype in (torch.float32, torch.bfloat16, torch.float16)])


def test_training_that_ends_far_above_its_lowest_loss_exports_nothing() -> None:
    health = Health(limit=3)
    for number, loss in enumerate([5.8, 5.5, 5.6, 430.0, 900.0, 3000.0], start=1):
        health.judge(number, result(loss), None)
    assert health.over(6, last=False) is None
    assert "Training diverged: the loss is 868.2 at the last step, 6; its lowest value was 5.633" in (health.over(6, last=True) or "")
