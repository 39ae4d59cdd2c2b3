"""Any rank's part of a weight out of the parts that ranks of any other layout wrote, and into an optimizer of torch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from llmtrain_trainer.checkpoint_readers.reader import MOMENTS, WEIGHT
from llmtrain_trainer.engines.deepspeed.files import TensorShard, Weight, weights_of
from llmtrain_trainer.engines.deepspeed.optimizer_state import TorchState, load
from llmtrain_trainer.engines.deepspeed.place import DeepSpeedRank

ALONE = DeepSpeedRank(device=torch.device("cpu"), pp=1, dp=1, tp=1, pp_rank=0, dp_rank=0, tp_rank=0, tensor=None)
CUTS = st.sampled_from([None, 0, 1])
DEGREES = st.sampled_from([1, 2, 4])


def numbers(*shape: int, key: str = WEIGHT) -> torch.Tensor:
    first = 1000.0 * (WEIGHT, *MOMENTS).index(key)
    return (first + torch.arange(torch.Size(shape).numel(), dtype=torch.float32)).view(shape)


def pieces_of(shard: torch.Tensor, replicas: int) -> tuple[torch.Tensor, ...]:
    """As ZeRO-3 shares a shard: equal parts, the last one filled up."""
    flat = shard.flatten()
    size = -(-flat.numel() // replicas)
    padded = torch.cat([flat, torch.full((size * replicas - flat.numel(),), -1.0)])
    return padded.split(size)


def stored(whole: torch.Tensor, cut: int | None, ranks: int, replicas: int, keys: Sequence[str] = (WEIGHT,)) -> Weight:
    """A weight as `ranks` tensor-parallel ranks of `replicas` replicas wrote it. Moments are 1000 and 2000 more."""
    shards = [whole] * ranks if cut is None else list(whole.chunk(ranks, cut))
    more = {key: 1000.0 * (WEIGHT, *MOMENTS).index(key) for key in keys}
    held = [{key: pieces_of(shard + add, replicas) for key, add in more.items()} for shard in shards]
    return Weight(tuple(TensorShard(shard.shape, pieces) for shard, pieces in zip(shards, held, strict=True)), cut)


@given(cut=CUTS, ranks=DEGREES, replicas=st.integers(1, 5))
def test_a_weight_is_whole_again_however_it_was_split(cut: int | None, ranks: int, replicas: int) -> None:
    whole = numbers(8, 12)
    weight = stored(whole, cut, ranks, replicas)
    assert weight.shape == whole.shape and torch.equal(weight.read(), whole)


@given(
    written=st.tuples(CUTS, DEGREES, st.integers(1, 5)),
    cut=CUTS,
    ranks=DEGREES,
    replicas=st.integers(1, 5),
)
def test_the_parts_of_all_ranks_of_another_layout_are_the_weight(
    written: tuple[int | None, int, int], cut: int | None, ranks: int, replicas: int
) -> None:
    whole = numbers(8, 12)
    weight = stored(whole, *written)
    shards = [whole] * ranks if cut is None else list(whole.chunk(ranks, cut))
    for rank, shard in enumerate(shards):
        flat = shard.flatten()
        bounds = [flat.numel() * part // replicas for part in range(replicas + 1)]
        parts = [weight.share(WEIGHT, cut, rank, ranks, start, end - start) for start, end in itertools.pairwise(bounds)]
        assert torch.equal(torch.cat(parts), flat)


@given(start=st.integers(0, 24), count=st.integers(0, 24), replicas=st.integers(1, 7))
def test_a_range_of_elements_is_that_range_across_the_borders_of_pieces(start: int, count: int, replicas: int) -> None:
    whole = numbers(24)
    found = stored(whole, None, 1, replicas).share(WEIGHT, None, 0, 1, start, count)
    assert torch.equal(found, whole[start : start + count])


def test_what_fills_up_the_last_piece_is_no_element() -> None:
    weight = stored(numbers(5), None, 1, 4)
    assert [piece.tolist() for piece in weight.shards[0].pieces(WEIGHT)] == [[0.0, 1.0], [2.0, 3.0], [4.0], []]


def test_a_weight_in_half_precision_is_read_in_full() -> None:
    weight = Weight((TensorShard(torch.Size([4]), {WEIGHT: (numbers(4).bfloat16(),)}),), None)
    assert weight.read().dtype == weight.share(WEIGHT, None, 0, 1, 1, 2).dtype == torch.float32


class Held:
    """A CheckpointReader of tensors in memory."""

    def __init__(self, steps: int, **weights: torch.Tensor) -> None:
        self.steps, self._weights = steps, weights

    @property
    def shapes(self) -> dict[str, torch.Size]:
        return {name: weight.shape for name, weight in self._weights.items()}

    def read(self, name: str, key: str = WEIGHT) -> torch.Tensor:
        return self._weights[name] + 1000.0 * (WEIGHT, *MOMENTS).index(key)


@pytest.mark.parametrize(("steps", "keys"), [(0, [WEIGHT]), (3, [WEIGHT, *MOMENTS])])
def test_another_engines_weights_have_moments_only_where_it_made_a_step(steps: int, keys: list[str]) -> None:
    (weight,) = weights_of(Held(steps, a=numbers(2, 3))).values()
    held = weight.shards[0].held
    assert list(held) == keys and len(held) == len(keys)
    assert torch.equal(weight.read(keys[-1]), numbers(2, 3, key=keys[-1]))


def trained() -> tuple[dict[str, nn.Parameter], torch.optim.AdamW]:
    weights = {"matrix": nn.Parameter(torch.zeros(4, 6)), "norm": nn.Parameter(torch.zeros(6))}
    groups = [{"params": [weights["matrix"]], "weight_decay": 0.1}, {"params": [weights["norm"]], "weight_decay": 0.0}]
    return weights, torch.optim.AdamW(groups, lr=0.01)


def checkpoint(ranks: int = 2) -> dict[str, Weight]:
    keys = (WEIGHT, *MOMENTS)
    return {"matrix": stored(numbers(4, 6), 1, ranks, 3, keys), "norm": stored(numbers(6), None, ranks, 3, keys)}


def test_an_optimizer_of_torch_continues_with_the_weights_moments_and_steps_of_the_checkpoint() -> None:
    weights, optimizer = trained()
    load(checkpoint(), 7, TorchState(optimizer), {weight: name for name, weight in weights.items()}, {}, ALONE)
    for name, shape in (("matrix", (4, 6)), ("norm", (6,))):
        state = optimizer.state[weights[name]]
        assert torch.equal(weights[name].detach(), numbers(*shape)) and state["step"].item() == 7.0
        assert all(torch.equal(state[key], numbers(*shape, key=key)) for key in MOMENTS)
    for weight in weights.values():
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    assert optimizer.state[weights["norm"]]["step"].item() == 8.0


def test_a_checkpoint_before_the_first_step_gives_weights_and_no_moments() -> None:
    weights, optimizer = trained()
    load(checkpoint(), 0, TorchState(optimizer), {weight: name for name, weight in weights.items()}, {}, ALONE)
    assert torch.equal(weights["matrix"].detach(), numbers(4, 6)) and not optimizer.state[weights["matrix"]]


def test_a_weight_that_the_checkpoint_lacks_is_named() -> None:
    weights, optimizer = trained()
    lacking = {name: weight for name, weight in checkpoint().items() if name != "norm"}
    with pytest.raises(ValueError, match="does not hold norm, which this run trains: was it written with other adapters"):
        load(lacking, 7, TorchState(optimizer), {weight: name for name, weight in weights.items()}, {}, ALONE)
