"""Norm and clip on plain tensors; that each element counts once over a mesh is shown by test_layouts.py."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import nn

from llmtrain_trainer.engines.native.gradients import clip, square_sum
from llmtrain_trainer.engines.native.shards import Shard
from llmtrain_trainer.model.loss import CHUNK, token_loss


def shard(values: list[float], *, counted: bool = True) -> Shard:
    weight = nn.Parameter(torch.zeros(len(values)))
    weight.grad = torch.tensor(values)
    found = Shard(name="w", weight=weight, local=nn.Parameter(weight.detach()), counted=counted, tied=False, summed=False)
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


def test_positions_that_are_no_target_cost_nothing() -> None:
    logits = torch.randn(1, 3, 5)
    both = token_loss(logits, torch.tensor([[1, -100, 4]]))
    single = -torch.log_softmax(logits, -1)[0, [0, 2], [1, 4]].sum()
    assert both.shape == (1,)
    assert both.item() == pytest.approx(single.item(), abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_loss_in_chunks_is_the_whole_one_and_so_is_its_gradient(dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(1)
    given = (4 * torch.randn(1, 700, 1000, generator=draw)).to(dtype)
    labels = torch.randint(0, 1000, (1, 700), generator=draw)
    labels[0, ::5] = -100
    whole, chunked = given.clone().requires_grad_(), given.clone().requires_grad_()
    expected = torch.nn.functional.cross_entropy(whole[0].float(), labels[0], reduction="sum")
    (expected / 100).backward()
    found = token_loss(chunked * 1, labels)
    (found.squeeze() / 100).backward()
    assert chunked.numel() > CHUNK["cpu"]
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    assert chunked.grad is not None
    assert whole.grad is not None
    torch.testing.assert_close(chunked.grad, whole.grad, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-7)


def test_logits_that_backward_needs_again_are_refused_rather_than_wrong() -> None:
    leaf = torch.randn(1, 700, 1000, requires_grad=True)
    logits = leaf.exp()  # keeps its result for backward
    loss = token_loss(logits, torch.zeros(1, 700, dtype=torch.int64))
    with pytest.raises(RuntimeError, match="inplace"):
        loss.sum().backward()
