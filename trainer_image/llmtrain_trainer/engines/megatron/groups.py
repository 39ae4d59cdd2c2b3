"""Megatron's process groups for a mesh, and the device it works on."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from megatron.core import parallel_state
from megatron.core.tensor_parallel import model_parallel_cuda_manual_seed

from llmtrain_trainer.config import Mesh

STAND_IN = "LLMTRAIN_CUDA_STAND_IN"
"""Environment of a rank: a module to import that stands in for CUDA on a machine without it. For tests alone; see docs/engines.md."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MegatronRank:
    """Where this rank stands; `replica` is its data-parallel index."""

    pp: int
    replica: int
    cp: int
    tp: int
    ep: int


def device_of(name: str) -> torch.device:
    """The device of this rank. Raises ValueError for a CPU, unless a module stands in for CUDA: Megatron-core asks for CUDA by name."""
    if name == "cuda":
        return torch.device("cuda", torch.cuda.current_device())
    if module := os.environ.get(STAND_IN):
        importlib.import_module(module)
        return torch.device("cpu")
    raise ValueError("device is cpu, but Megatron-core runs on CUDA GPUs only: set resources.gpusPerNode, or use engine native")


def join_groups(mesh: Mesh, seed: int) -> MegatronRank:
    """Make the groups of all ranks, tp inside cp inside dp inside pp, as mesh ranks are numbered. Collective.

    Raises ValueError where the mesh needs another number of ranks than there are.
    """
    if mesh.world_size != (world := dist.get_world_size()):
        raise ValueError(
            f"mesh pp {mesh.pp} x dp {mesh.dp} x cp {mesh.cp} x tp {mesh.tp} needs {mesh.world_size} ranks, but {world} are running"
        )
    if parallel_state.model_parallel_is_initialized():
        parallel_state.destroy_model_parallel()
    virtual = len(mesh.stages) // mesh.pp
    parallel_state.initialize_model_parallel(
        tensor_model_parallel_size=mesh.tp,
        pipeline_model_parallel_size=mesh.pp,
        virtual_pipeline_model_parallel_size=virtual if virtual > 1 else None,
        context_parallel_size=mesh.cp,
        expert_model_parallel_size=mesh.ep,
        order="tp-cp-ep-dp-pp",
    )
    model_parallel_cuda_manual_seed(seed, force_reset_rng=True)
    return MegatronRank(
        pp=parallel_state.get_pipeline_model_parallel_rank(),
        replica=parallel_state.get_data_parallel_rank(),
        cp=parallel_state.get_context_parallel_rank(),
        tp=parallel_state.get_tensor_model_parallel_rank(),
        ep=parallel_state.get_expert_model_parallel_rank(),
    )
