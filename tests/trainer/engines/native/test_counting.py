"""Each element of the model counts once in the norm, whatever mesh: every rank's shards, one rank after the other in one process."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from llmtrain_trainer.engines.native.assemble import build_stages
from llmtrain_trainer.engines.native.mesh import build_parallel_dims
from llmtrain_trainer.engines.native.shards import shards_of
from llmtrain_trainer.model.skeleton import skeleton

MESHES: list[dict[str, int]] = [
    {"dp": 2, "cp": 2},
    {"dp": 2, "cp": 2, "zero_stage": 0},
    {"dp": 4, "ep": 2},
    {"dp": 4, "ep": 2, "zero_stage": 0},
    {"cp": 2, "tp": 2, "ep": 2},
    {"pp": 2, "dp": 2, "ep": 2},
]


def counted(config: Any, model_dir: Path, rank: int) -> int:
    """Elements that this rank counts. Its groups hold no one else: what they would send is not looked at."""
    dist.init_process_group("fake", rank=rank, world_size=config.mesh.world_size, store=FakeStore())
    try:
        dims = build_parallel_dims(config.mesh, torch.device("cpu"))
        shards = shards_of(build_stages(config, model_dir, dims), dims, set())
        return sum(shard.local.numel() for shard in shards if shard.counted)
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("mesh", MESHES, ids=lambda mesh: "-".join(f"{axis}{degree}" for axis, degree in mesh.items()))
def test_the_ranks_together_count_every_element_once(parity: ModuleType, tmp_path: Path, mesh: dict[str, int]) -> None:
    config = parity.config_of(parity.Case(shape=parity.MIXTRAL, **mesh), 1)
    (tmp_path / "config.json").write_text(json.dumps(config.model.config))
    whole = sum(weight.numel() for weight in skeleton(config, tmp_path).parameters())
    assert sum(counted(config, tmp_path, rank) for rank in range(config.mesh.world_size)) == whole
