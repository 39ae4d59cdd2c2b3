"""Norm and clip on plain tensors; that each element counts once over a mesh is shown by test_layouts.py."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import nn

from llmtrain_trainer.engines.native.gradients import clip, square_sum
from llmtrain_trainer.engines.native.shards import Shard


def shard(values: list[float], *, counted: bool = True) -> Shard:
    weight = nn.Parameter(torch.zeros(len(values)))
    weight.grad = torch.tensor(values)
    found = Shard(name="w", weight=weight, local=nn.Parameter(weight.detach()), counted=counted, tied=False, partial_over_tp=False)
    found.take_gradient()
    return found


def gradients(shards: list[Shard]) -> list[torch.Tensor]:
    return [part.local.grad for part in shards if part.local.grad is not None]


def test_a_copy_that_is_not_counted_adds_nothing_to_the_norm() -> None:
    shards = [shard([3.0, 4.0]), shard([3.0, 4.0], counted=False), shard([])]
    assert square_sum(shards, gradients(shards)).item() == pytest.approx(25.0)


def test_a_rank_that_counts_nothing_gives_zero() -> None:
    shards = [shard([1.0], counted=False)]
    assert square_sum(shards, gradients(shards)).item() == 0.0


@pytest.mark.parametrize(("limit", "expected"), [(1.0, [0.6, 0.8]), (10.0, [3.0, 4.0]), (0.0, [3.0, 4.0])])
def test_gradients_are_scaled_down_to_the_limit_and_never_up(limit: float, expected: list[float]) -> None:
    shards = [shard([3.0, 4.0])]
    clip(gradients(shards), 5.0, limit)
    assert gradients(shards)[0].tolist() == pytest.approx(expected, abs=1e-5)


def test_a_weight_that_backward_did_not_reach_has_a_gradient_of_zeros() -> None:
    part = shard([1.0, 2.0])
    part.weight.grad = None
    part.take_gradient()
    assert gradients([part])[0].tolist() == [0.0, 0.0]


def test_the_gradient_of_the_last_step_leaves_no_memory_behind() -> None:
    part = shard([1.0, 2.0])
    assert part.weight.grad is not None
    held = weakref.ref(part.weight.grad)
    part.drop_gradient()
    assert held() is None
