"""A step whose loss or norm is not finite, in one process: engine native leaves its update out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.distributed as dist

from llmtrain_trainer.engines import build_engine

pytestmark = pytest.mark.long


@pytest.fixture
def engine(parity: ModuleType, tmp_path: Path) -> Iterator[Any]:
    """Of one rank, this process."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    config = parity.config_of(parity.Case(), 4)
    (tmp_path / "config.json").write_text(json.dumps(config.model.config))
    yield build_engine(config, tmp_path)
    dist.destroy_process_group()


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_an_update_that_is_not_finite_is_left_out_and_the_next_one_is_made(engine: Any, parity: ModuleType, odd: float) -> None:
    def step(number: int) -> Any:
        batch = parity.batch_of(number, engine.replica, 1, packed=False)
        return engine.train_step(batch, learning_rate=1e-3, step=number, stop=False)

    assert not step(1).skipped and engine.finite()
    place = engine._shards[-1].local.detach().view(-1)
    sound = place[0].clone()
    place[0] = odd
    before = [shard.local.detach().clone() for shard in engine._shards]
    result = step(2)
    assert result.skipped and not engine.finite()
    for shard, old in zip(engine._shards, before, strict=True):
        assert torch.equal(torch.nan_to_num(shard.local), torch.nan_to_num(old))
    place[0] = sound
    assert not step(3).skipped and engine.finite()
