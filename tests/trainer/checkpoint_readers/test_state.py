"""Any engine's checkpoint as what torch.distributed.checkpoint loads a native run from: whole, in parts, with or without moments."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

from llmtrain_trainer.checkpoint_readers.reader import MOMENTS, WEIGHT
from llmtrain_trainer.checkpoint_readers.state import StateOf

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


class Held:
    """A CheckpointReader of tensors in memory, which counts what is read. Moments are 100 and 200 more than the weight."""

    def __init__(self, steps: int, **weights: torch.Tensor) -> None:
        self.steps, self._weights = steps, weights
        self.asked: list[tuple[str, str]] = []

    @property
    def shapes(self) -> dict[str, torch.Size]:
        return {name: weight.shape for name, weight in self._weights.items()}

    def read(self, name: str, key: str = WEIGHT) -> torch.Tensor:
        self.asked.append((name, key))
        return self._weights[name] + 100.0 * (WEIGHT, *MOMENTS).index(key)


def held(steps: int = 5) -> Held:
    return Held(steps, matrix=torch.arange(12.0).view(3, 4), norm=torch.arange(4.0))


def state(*names: str) -> dict[str, Any]:
    shapes = held().shapes
    found: dict[str, Any] = {f"model.{name}": torch.full(shapes[name], -1.0) for name in names}
    found |= {f"optimizer.{name}.{key}": torch.full(shapes[name], -1.0) for name in names for key in MOMENTS}
    return found | {f"optimizer.{name}.step": torch.tensor(-1.0) for name in names}


def loaded(source: Held, into: dict[str, Any]) -> dict[str, Any]:
    dcp.load(into, storage_reader=StateOf(source), no_dist=True)
    return into


def test_weights_moments_and_the_number_of_steps_are_loaded() -> None:
    source = held()
    found = loaded(source, state("matrix", "norm"))
    for name in ("matrix", "norm"):
        assert torch.equal(found[f"model.{name}"], source.read(name))
        assert found[f"optimizer.{name}.step"].item() == 5.0
        assert all(torch.equal(found[f"optimizer.{name}.{key}"], source.read(name, key)) for key in MOMENTS)


def test_a_checkpoint_without_moments_is_one_of_zeros() -> None:
    source = held(steps=0)
    found = loaded(source, state("matrix"))
    assert torch.equal(found["model.matrix"], source.read("matrix"))
    assert not any(found[f"optimizer.matrix.{key}"].any() for key in (*MOMENTS, "step"))


def test_only_what_a_rank_needs_is_read_and_each_tensor_once() -> None:
    source = held()
    loaded(source, state("norm"))
    assert sorted(source.asked) == sorted([("norm", WEIGHT), *(("norm", key) for key in MOMENTS)])


def test_a_weight_that_the_checkpoint_lacks_is_named() -> None:
    with pytest.raises(CheckpointException, match=r"model\.other"):
        loaded(held(), {"model.other": torch.zeros(2)})


def test_a_weight_of_another_shape_is_refused() -> None:
    with pytest.raises(CheckpointException, match=r"model\.matrix|[Ss]ize mismatch"):
        loaded(held(), {"model.matrix": torch.zeros(4, 4)})


def test_every_key_is_described_with_its_shape_in_full_precision() -> None:
    metadata = StateOf(held()).read_metadata().state_dict_metadata
    assert set(metadata) == set(state("matrix", "norm"))
    matrix, step = metadata["model.matrix"], metadata["optimizer.matrix.step"]
    assert matrix.size == torch.Size([3, 4]) and step.size == torch.Size([])  # type: ignore[union-attr]
    assert {entry.properties.dtype for entry in metadata.values()} == {torch.float32}  # type: ignore[union-attr]


def test_half_precision_is_filled_from_full_precision() -> None:
    found = loaded(held(), {"model.matrix": torch.zeros(3, 4, dtype=torch.bfloat16)})
    assert torch.equal(found["model.matrix"].float(), held().read("matrix"))
