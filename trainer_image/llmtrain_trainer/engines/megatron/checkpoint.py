"""Checkpoints in Megatron's own torch_dist format, which megatron.core.dist_checkpointing reads in other layouts too.

Each rank writes one shard into a directory of its own; the agent uploads all of them as one checkpoint (checkpoint/writer.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from megatron.core import dist_checkpointing
from megatron.core.dist_checkpointing.mapping import ShardedObject
from megatron.core.dist_checkpointing.strategies.base import SaveShardedStrategy
from megatron.core.dist_checkpointing.strategies.torch import (
    MCoreSavePlanner,
    _replace_state_dict_keys_with_sharded_keys,
    mcore_to_pyt_state_dict,
)
from megatron.core.distributed import DistributedDataParallel
from megatron.core.optimizer import MegatronOptimizer
from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer
from torch import nn
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict_saver import save

from llmtrain_trainer.engines.megatron.optimizer import forget_steps, parts_of, set_steps

EFFICIENT = {"distrib_optim_fully_reshardable_mem_efficient": True}
"""Gather the shares of an optimizer to the first replica's host memory, not to every GPU."""


class InProcess(SaveShardedStrategy):  # type: ignore[misc]
    """Writes the shards from this process. Megatron's own writer forks helpers from it, which a process with CUDA and threads must not."""

    def __init__(self) -> None:
        super().__init__("torch_dist", 1)

    @property
    def can_handle_sharded_objects(self) -> bool:
        return True

    def save(self, sharded_state_dict: Any, checkpoint_dir: str | Path) -> None:
        """Collective. Files are synced later, beside training."""
        sharded, _, _ = _replace_state_dict_keys_with_sharded_keys(sharded_state_dict, True)
        save(
            mcore_to_pyt_state_dict(sharded, False),
            storage_writer=FileSystemWriter(checkpoint_dir, sync_files=False),
            planner=MCoreSavePlanner(dedup_replicated_tensors=False, flatten_state_dict=False),
        )


def write_files(chunks: Sequence[DistributedDataParallel], optimizer: MegatronOptimizer, steps: int, directory: Path) -> None:
    """Weights, optimizer and the count of its steps. Collective; `directory` is this rank's alone."""
    state = _state(chunks, optimizer, loading=False) | {"steps": steps}
    dist_checkpointing.save(state, str(directory), InProcess())


def load_files(chunks: Sequence[DistributedDataParallel], optimizer: MegatronOptimizer, directory: Path) -> int:
    """Weights and optimizer from the files of all ranks; returns the steps that the optimizer has done. Collective."""
    state = dist_checkpointing.load(_state(chunks, optimizer, loading=True), str(directory))
    for number, chunk in enumerate(chunks):
        _load_model(chunk.module, state[f"model{number}"])
    with torch.no_grad():
        for number, part in enumerate(parts_of(optimizer)):
            _load_part(part, state[f"optimizer{number}"])
    steps: int = state["steps"]
    set_steps(optimizer, steps)
    return steps


def _state(chunks: Sequence[DistributedDataParallel], optimizer: MegatronOptimizer, *, loading: bool) -> dict[str, Any]:
    models = {f"model{number}": _tensors(chunk.module.sharded_state_dict()) for number, chunk in enumerate(chunks)}
    parts = {f"optimizer{number}": _part_state(part, models, loading=loading) for number, part in enumerate(parts_of(optimizer))}
    return models | {name: state for name, state in parts.items() if state is not None}


def _tensors(state: dict[str, Any]) -> dict[str, Any]:
    """Without what Transformer Engine keeps beside its weights for FP8: pickles, which would be read without restriction."""
    return {name: held for name, held in state.items() if not isinstance(held, ShardedObject)}


def _load_model(module: nn.Module, state: dict[str, Any]) -> None:
    """Raises ValueError where a weight is missing or not known."""
    found = module.load_state_dict(state, strict=False)
    if strange := [name for name in (*found.missing_keys, *found.unexpected_keys) if not name.endswith("_extra_state")]:
        raise ValueError(f"the checkpoint and the model differ in {', '.join(strange[:5])}")


def _part_state(part: MegatronOptimizer, models: dict[str, Any], *, loading: bool) -> Any:
    """A shared-out optimizer's states have the shapes of their weights, whatever the layout; Megatron's default for them cannot be read.

    None where the first replica writes what this one holds: Megatron would warn of an entry of nothing at every save.
    """
    if isinstance(part, DistributedOptimizer):
        return part.sharded_param_state_fully_reshardable(models, loading, EFFICIENT)
    return part.sharded_state_dict(models, is_loading=loading)


def _load_part(part: MegatronOptimizer, state: Any) -> None:
    if isinstance(part, DistributedOptimizer):
        forget_steps(part)
        part.load_parameter_state_from_fully_reshardable(state)
    else:
        part.load_state_dict(state)
