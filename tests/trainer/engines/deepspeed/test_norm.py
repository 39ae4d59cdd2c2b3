"""The norm of the whole model before the optimizer's step, and what becomes of a step whose norm is not finite."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch import nn

from llmtrain_trainer.engines.deepspeed.norm import Clipper, Guard
from llmtrain_trainer.engines.deepspeed.place import DeepSpeedRank

ALONE = DeepSpeedRank(device=torch.device("cpu"), pp=1, dp=1, tp=1, pp_rank=0, dp_rank=0, tp_rank=0, tensor=None)


@pytest.fixture
def alone() -> Iterator[None]:
    """A process group of this process."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("limit", [0.0, 1.0])
def test_a_step_whose_norm_is_not_finite_leaves_weights_and_moments_as_they_were(odd: float, limit: float) -> None:
    weights = {"a": nn.Parameter(torch.ones(3)), "b": nn.Parameter(torch.ones(2))}
    optimizer = torch.optim.AdamW(weights.values(), lr=0.1, weight_decay=0.1)
    clipper = Clipper(ALONE, weights, {}, frozenset(), limit, loss=lambda: torch.tensor(1.0))
    optimizer.register_step_pre_hook(clipper)
    for weight in weights.values():
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    assert clipper.norm == pytest.approx(5**0.5)
    before = [weight.detach().clone() for weight in weights.values()]
    for weight in weights.values():
        weight.grad = torch.ones_like(weight)
    assert weights["b"].grad is not None
    weights["b"].grad[1] = odd
    optimizer.step()
    assert not math.isfinite(clipper.norm)
    assert all(torch.equal(weight, old) for weight, old in zip(weights.values(), before, strict=True))
    assert all(torch.isfinite(state["exp_avg"]).all() for state in optimizer.state.values())


class Zero:
    """What DeepSpeed's ZeRO says of a step."""

    def __init__(self, norm: float, overflow: bool = False) -> None:
        self._global_grad_norm, self.overflow = torch.tensor(norm), overflow


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("found", [(math.nan, False), (math.inf, True), (-1.0, False), (2.0, True)])
def test_zero_leaves_out_an_update_whose_norm_is_not_finite_and_keeps_the_memory_of_the_gradients(found: tuple[float, bool]) -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer, guard = torch.optim.AdamW([weight], lr=0.1, weight_decay=0.1), Guard(Zero(*found), lambda: torch.tensor(1.0))
    optimizer.register_step_pre_hook(guard.before)
    optimizer.register_step_post_hook(guard.after)
    gradient = torch.full((3,), math.nan)
    weight.grad = gradient
    optimizer.step()
    assert torch.equal(weight, torch.ones(3)) and not optimizer.state and not math.isfinite(guard.norm)
    assert weight.grad is gradient, "offload keeps it for the next step"


@pytest.mark.usefixtures("alone")
def test_zero_makes_an_update_whose_norm_is_finite() -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer, guard = torch.optim.AdamW([weight], lr=0.1), Guard(Zero(2.0), lambda: torch.tensor(1.0))
    optimizer.register_step_pre_hook(guard.before)
    optimizer.register_step_post_hook(guard.after)
    weight.grad = torch.ones(3)
    optimizer.step()
    assert guard.norm == 2.0 and not torch.equal(weight, torch.ones(3))


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("zero", [True, False])
def test_a_step_whose_loss_is_not_finite_is_left_out_though_its_norm_is(zero: bool) -> None:
    losses = iter([1.0, math.nan, 1.0])
    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight], lr=0.1)

    def loss() -> torch.Tensor:
        return torch.tensor(next(losses))

    measured = Guard(Zero(2.0), loss) if zero else Clipper(ALONE, {"a": weight}, {}, frozenset(), 0.0, loss)
    if isinstance(measured, Guard):
        optimizer.register_step_pre_hook(measured.before)
        optimizer.register_step_post_hook(measured.after)
    else:
        optimizer.register_step_pre_hook(measured)
    held = []
    for _ in range(3):
        measured.begin()
        weight.grad = torch.ones(3)
        optimizer.step()
        if zero:
            optimizer.step()  # as ZeRO does for the next group of weights
        assert math.isfinite(measured.norm)
        held.append(weight.detach().clone())
    assert torch.equal(held[0], held[1]) and not torch.equal(held[1], held[2])
