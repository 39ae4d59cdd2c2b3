"""Cross entropy over the targets, whole and in chunks."""

from __future__ import annotations

import pytest
import torch

from llmtrain_trainer.objectives.cross_entropy import CHUNK, summed_cross_entropy


def test_positions_that_are_no_target_cost_nothing() -> None:
    logits = torch.randn(1, 3, 5)
    both = summed_cross_entropy(logits, torch.tensor([[1, -100, 4]]))
    single = -torch.log_softmax(logits, -1)[0, [0, 2], [1, 4]].sum()
    assert both.shape == ()
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
    found = summed_cross_entropy(chunked * 1, labels)
    (found / 100).backward()
    assert chunked.numel() > CHUNK["cpu"]
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    assert chunked.grad is not None
    assert whole.grad is not None
    torch.testing.assert_close(chunked.grad, whole.grad, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-7)


def test_logits_that_backward_needs_again_are_refused_rather_than_wrong() -> None:
    leaf = torch.randn(1, 700, 1000, requires_grad=True)
    logits = leaf.exp()  # keeps its result for backward
    loss = summed_cross_entropy(logits, torch.zeros(1, 700, dtype=torch.int64))
    with pytest.raises(RuntimeError, match="inplace"):
        loss.backward()
