"""Optimizer states and weights on a disk, into a checkpoint and back. Called by engine.py where offload names nvme.

DeepSpeed 0.19 copies its swap files beside a checkpoint and reads the fp32 weights alone back from them: moments and the count of steps
begin anew, and what was too small for the disk is not read at all. Here the files of a checkpoint are those of a run without a disk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from deepspeed.checkpoint.constants import FP32_FLAT_GROUPS, OPTIMIZER_STATE_DICT

from llmtrain_trainer.config import TrainerConfig

Group = tuple[torch.Tensor, dict[str, torch.Tensor]]
"""Of a sub-group, the part of the optimizer that is in memory at once: fp32 weights, and their states by name."""


def uses_disk(config: TrainerConfig) -> bool:
    """Whether anything of the run is on a disk."""
    return config.offload is not None and "nvme" in (config.offload.optimizer, config.offload.parameters)


def take_over(engine: Any) -> None:
    """Let a DeepSpeedEngine with ZeRO-3 save and load through `Disk`."""
    disk = Disk(engine)
    engine.zero_nvme_offload_optimizer = lambda: False  # it guards those copies of swap files, and nothing else here
    engine.optimizer.state_dict = disk.state
    engine._load_zero_checkpoint = disk.load


class Disk:
    """The optimizer of a DeepSpeedEngine, whole, a sub-group in memory at a time."""

    def __init__(self, engine: Any) -> None:
        self._engine, self._optimizer = engine, engine.optimizer

    def state(self) -> dict[str, Any]:
        """What ZeRO-3 saves; what is on the disk as maps of swap files, so that saving takes no memory."""
        state: dict[str, Any] = self._optimizer._rigid_state_dict()
        inner = state[OPTIMIZER_STATE_DICT]
        flats = [self._mapped(index, flat) for index, flat in enumerate(state[FP32_FLAT_GROUPS])]
        states = {index: {name: self._mapped(index, value) for name, value in held.items()} for index, held in inner["state"].items()}
        return state | {FP32_FLAT_GROUPS: flats, OPTIMIZER_STATE_DICT: inner | {"state": states}}

    def _mapped(self, index: int, tensor: torch.Tensor) -> torch.Tensor:
        """DeepSpeed names each tensor that it swaps out by an attribute, and its file by that; the file ends in padding."""
        if not self._swapped(index) or not hasattr(tensor, "ds_id"):
            return tensor
        file = Path(self._optimizer.optimizer_swapper.swap_folder) / f"{tensor.ds_id}.tensor.swp"
        size = self._optimizer.fp16_partitioned_groups_flat_numel[index]
        return torch.from_file(str(file), shared=False, size=size, dtype=tensor.dtype)

    def load(self, directory: str, tag: str, load_optimizer_states: bool = True) -> bool:  # noqa: ARG002 - DeepSpeed's interface
        """Into memory and onto the disk, as after a step. Returns True: it was found."""
        optimizer = self._optimizer
        read = self._universal(Path(directory, tag)) if self._engine.load_universal_checkpoint() else self._own(directory, tag)
        if optimizer.swap_optimizer:
            optimizer.optimizer_swapper.purge_state()
        for index in range(len(optimizer.fp32_partitioned_groups_flat)):
            self._place(index, *read(index))
        if optimizer.persistent_parameters:
            optimizer.persistent_parameters[0].partition(optimizer.persistent_parameters)
        return True

    def _place(self, index: int, weights: torch.Tensor, state: Mapping[str, torch.Tensor]) -> None:
        optimizer, flat = self._optimizer, self._optimizer.fp32_partitioned_groups_flat[index]
        if self._swapped(index):
            optimizer._optimizer_states_and_gradient_swap_in(index)
        flat.data.copy_(weights)
        optimizer.optimizer.state[flat] = {name: value.clone() for name, value in state.items()}
        optimizer._reassign_or_swap_out_partitioned_parameters(index)
        if self._swapped(index):
            optimizer._optimizer_states_and_gradient_swap_out(index)

    def _own(self, directory: str, tag: str) -> Callable[[int], Group]:
        """From this rank's file."""
        file = self._engine._get_zero_ckpt_name(directory, tag)
        saved = torch.load(file, map_location="cpu", mmap=True, weights_only=False)[OPTIMIZER_STATE_DICT]
        self._optimizer._load_global_state_stage3(saved)
        weights, states = saved[FP32_FLAT_GROUPS], saved[OPTIMIZER_STATE_DICT]["state"]
        return lambda index: (weights[index], states.get(index, {}))

    def _universal(self, directory: Path) -> Callable[[int], Group]:
        """From files of whole weights, which universal.py made."""
        optimizer, zero = self._optimizer, directory / "zero"
        saved = torch.load(zero / "optimizer_state.pt", weights_only=False)
        optimizer._load_global_state_stage3(saved)
        step = saved[OPTIMIZER_STATE_DICT]["state"][0]["step"]

        def share(index: int, key: str) -> torch.Tensor:
            names = ((weight, str(zero / optimizer.param_names[weight])) for weight in optimizer.fp16_groups[index])
            return torch.cat([optimizer.load_hp_checkpoint_state(name, key, param=weight) for weight, name in names])

        return lambda index: (share(index, "fp32"), {"step": step} | {key: share(index, key) for key in ("exp_avg", "exp_avg_sq")})

    def _swapped(self, index: int) -> bool:
        """Whether a sub-group is on the disk: one of less than a mebibyte is not."""
        return bool(self._optimizer._swappable_optimizer_subgroup(index))
