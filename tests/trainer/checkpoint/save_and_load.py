"""Run by test_writer.py as ranks: trains a little, saves with the real CheckpointWriter, or loads what was saved and prints what it is.

python save_and_load.py save|fail|load <rank> <world size> <port> <directory>
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from llmtrain_trainer.checkpoint.writer import CheckpointWriter

NAME = "step-00000002-a0-r0"
FLAT = StateDictOptions(flatten_optimizer_state_dict=True)


def build(world: int) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(7, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3, bias=False))
    fully_shard(model, mesh=init_device_mesh("cpu", (world,)))
    return model, torch.optim.AdamW(model.parameters(), lr=0.1)


def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        optimizer.zero_grad()
        inputs = (
            torch.arange(28, dtype=torch.float32).reshape(4, 7) / 28 + step
        )  # the same on every rank: the mean is the same in any layout
        model(inputs).square().mean().backward()
        optimizer.step()


def state_of(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Tensors alone, as engines save them."""
    weights, moments = get_state_dict(model, optimizer, options=FLAT)
    return {"model": weights, "optimizer": {name: value for name, value in moments.items() if isinstance(value, torch.Tensor)}}


def fingerprint(model: torch.nn.Module) -> list[float]:
    """Sums of the full weights: collective."""
    return [float(parameter.full_tensor().double().abs().sum()) for parameter in model.parameters()]  # type: ignore[attr-defined]


def main(mode: str, rank: int, world: int, port: int, directory: Path) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    model, optimizer = build(world)
    said: dict[str, Any] = {}
    if mode == "load":
        state = state_of(model, optimizer)
        dcp.load(state, checkpoint_id=directory)
        moments = get_state_dict(model, optimizer, options=FLAT)[1] | state["optimizer"]
        set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=moments, options=FLAT)
        said["saved"] = fingerprint(model)
        train(model, optimizer, range(2, 4))
        said["later"] = fingerprint(model)
    else:
        writer = CheckpointWriter(directory)
        train(model, optimizer, range(2))
        said["saved"] = fingerprint(model)
        said["blocked"] = writer.save(NAME, state_of(model, optimizer), {"step": 2, "consumed_samples": 8, "mesh": {"dp": world}})
        train(model, optimizer, range(2, 4))  # while the save runs: it must not see this
        said["later"] = fingerprint(model)
        if mode == "save":
            writer.save(NAME.replace("2-", "4-"), state_of(model, optimizer), {"step": 4})
        try:
            writer.finish()
        except RuntimeError as error:
            said["error"] = str(error)
    if rank == 0:
        print(json.dumps(said))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
