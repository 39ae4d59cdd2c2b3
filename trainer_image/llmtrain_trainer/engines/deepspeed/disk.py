"""Saves optimizer states and weights that are offloaded to disk.

DeepSpeed 0.19 copies its swap files beside a checkpoint. Here the files of a checkpoint are those of a run without a disk.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from deepspeed.checkpoint.constants import FP32_FLAT_GROUPS, OPTIMIZER_STATE_DICT

from llmtrain_trainer.config import TrainerConfig


def uses_disk(config: TrainerConfig) -> bool:
    """Whether parameters or optimizer states are offloaded to a disk."""
    return config.offload is not None and "nvme" in (config.offload.optimizer, config.offload.parameters)


def take_over(engine: Any) -> None:
    """Let a DeepSpeedEngine with ZeRO-3 save through `Disk`."""
    engine.zero_nvme_offload_optimizer = lambda: False  # it guards those copies of swap files, and nothing else here
    engine.optimizer.state_dict = Disk(engine.optimizer).state


class Disk:
    """The full ZeRO-3 optimizer state, with one sub-group in memory at a time."""

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer

    def state(self) -> dict[str, Any]:
        """What ZeRO-3 saves; what is on the disk as maps of swap files, so that saving takes no memory."""
        state: dict[str, Any] = self._optimizer._rigid_state_dict()
        inner = state[OPTIMIZER_STATE_DICT]
        buffers = [self._mapped(index, flat) for index, flat in enumerate(state[FP32_FLAT_GROUPS])]
        states = {index: {name: self._mapped(index, value) for name, value in held.items()} for index, held in inner["state"].items()}
        return state | {FP32_FLAT_GROUPS: buffers, OPTIMIZER_STATE_DICT: inner | {"state": states}}

    def _mapped(self, index: int, tensor: torch.Tensor) -> torch.Tensor:
        """DeepSpeed names each tensor that it swaps out by an attribute, and its file by that; the file ends in padding."""
        if not self._swapped(index) or not hasattr(tensor, "ds_id"):
            return tensor
        file = Path(self._optimizer.optimizer_swapper.swap_folder) / f"{tensor.ds_id}.tensor.swp"
        size = self._optimizer.fp16_partitioned_groups_flat_numel[index]
        return torch.from_file(str(file), shared=False, size=size, dtype=tensor.dtype)

    def _swapped(self, index: int) -> bool:
        """Whether a sub-group is on the disk: one smaller than a MiB is not."""
        return bool(self._optimizer._swappable_optimizer_subgroup(index))
