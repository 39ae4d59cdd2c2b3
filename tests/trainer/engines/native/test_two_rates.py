"""LoRA+ of engine native: which weights have the other learning rate, as peft's own optimizer has it."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from llmtrain_trainer.engines.native.engine import _adamw
from llmtrain_trainer.engines.native.shards import Shard

WEIGHTS = {
    "q_proj.lora_A.default.weight": (2, 4),
    "q_proj.lora_B.default.weight": (4, 2),
    "q_proj.lora_magnitude_vector.default.weight": (4,),
}


def shards() -> tuple[Shard, ...]:
    made = {name: nn.Parameter(torch.zeros(shape)) for name, shape in WEIGHTS.items()}
    return tuple(Shard(name=name, weight=each, local=each, counted=True, tied=False, partial_over_tp=False) for name, each in made.items())


@pytest.mark.parametrize(
    ("ratio", "fast"), [(1.0, set()), (8.0, {"q_proj.lora_B.default.weight", "q_proj.lora_magnitude_vector.default.weight"})]
)
def test_matrices_b_and_magnitudes_have_the_other_rate(parity: ModuleType, ratio: float, fast: set[str]) -> None:
    case: Any = parity.Case(peft=parity.DORA | {"learningRateRatio": ratio})
    mine = shards()
    names = {shard.local: shard.name for shard in mine}
    groups = _adamw(mine, parity.config_of(case, 1)).param_groups
    rates = {names[weight]: group["ratio"] for group in groups for weight in group["params"]}
    assert rates == {name: ratio if name in fast else 1.0 for name in WEIGHTS}


def test_magnitudes_are_not_decayed(parity: ModuleType) -> None:
    training = {"optimizer": {"learningRate": 1e-3, "weightDecay": 0.1}}
    mine = shards()
    names = {shard.local: shard.name for shard in mine}
    for group in _adamw(mine, parity.config_of(parity.Case(peft=parity.DORA, training=training), 1)).param_groups:
        assert all((group["weight_decay"] == 0) == ("magnitude" in names[weight]) for weight in group["params"])
