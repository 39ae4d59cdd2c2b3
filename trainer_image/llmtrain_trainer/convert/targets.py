"""Writes weights as Hugging Face's files, and as a checkpoint of a layout."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore

from llmtrain_trainer.checkpoint.manifest import Name
from llmtrain_trainer.checkpoint.owner import Claim, OwnedError, describe_self
from llmtrain_trainer.checkpoint.restore import find, next_attempt, verify
from llmtrain_trainer.checkpoint.store.store import Store, verify_object
from llmtrain_trainer.checkpoint.uploader import Uploader
from llmtrain_trainer.checkpoint_readers.reader import CheckpointReader
from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.config.tables.engines import ENGINE_FACTS
from llmtrain_trainer.convert.launch import launch
from llmtrain_trainer.data.bad_data import BadData
from llmtrain_trainer.model.export import write_weights

KEEP_ALL = 10**9
"""A conversion deletes none of the earlier checkpoints."""

PATIENCE = 24 * 3600.0
"""Seconds for the ranks, and for the upload."""


def write_files(source: CheckpointReader, model_dir: Path, directory: Path, dtype: torch.dtype) -> None:
    """Hugging Face's files, one file's worth of weights in memory at a time."""
    directory.mkdir(parents=True)
    with alone():
        write_weights(dtype, model_dir, source.shapes, source.read, directory)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Let this process be the only rank of a gang: exports are written by rank 0."""
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def publish(directory: Path, store: Store) -> list[str]:
    """Copy files to a store and read each back. Returns their names. Raises StoreError, BadCheckpointError."""
    names = []
    for path in sorted(directory.iterdir()):
        verify_object(store, path.name, store.put_file(path, path.name))
        names.append(path.name)
    return names


def write_checkpoint(
    config: TrainerConfig, model_dir: Path, stored: tuple[Path, str] | None, staging: Path, store: Store, facts: Mapping[str, Any]
) -> str:
    """A checkpoint in the layout of `config`, committed and read back. Returns its name.

    `stored`: a fetched checkpoint and its format, of which weights and optimizer are taken; None: the weights are in `model_dir`, and the
    optimizer is fresh. `facts`: of the manifest's meta; the step among them. Raises BadData, StoreError.
    """
    local = _on_this_machine(config, model_dir, drawn=stored is not None)
    with claimed(store, config, staging) as claim:
        return _write(config, local, model_dir, stored, staging, store, facts, claim)


@contextlib.contextmanager
def claimed(store: Store, config: TrainerConfig, staging: Path) -> Iterator[Claim]:
    """Own the store meanwhile: a run that trains there would end, as a newer checkpoint than its own came in. Raises BadData."""
    job = config.job
    claim = Claim(store, describe_self(job.namespace, job.name, job.attempt, supervised=False, workdir=str(staging)))
    try:
        claim.take()
    except OwnedError as error:
        raise BadData("--to", store.uri(), f"a run that lives writes there ({error})", "Give another place, or wait") from error
    claim.keep()
    try:
        yield claim
    finally:
        claim.release()


def _write(
    config: TrainerConfig,
    local: TrainerConfig,
    model_dir: Path,
    stored: tuple[Path, str] | None,
    staging: Path,
    store: Store,
    facts: Mapping[str, Any],
    claim: Claim,
) -> str:
    name = Name(attempt=next_attempt(store), round=0, step=int(facts["step"]))
    meta = {
        **facts,
        "attempt": name.attempt,
        "round": 0,
        "mesh": config.mesh.model_dump(mode="json", by_alias=True),
        "engine": config.engine,
        "format": ENGINE_FACTS[config.engine].checkpoint_format,
    }
    world = config.mesh.world_size
    script = Path(__file__).with_name("rank_side.py")
    backend = "gloo" if local.device == "cpu" else "cpu:gloo,cuda:nccl"
    arguments = (local.model_dump_json(by_alias=True), model_dir, stored, staging, str(name), meta)
    launch(script, "write", world, *arguments, timeout=PATIENCE, backend=backend)
    said: list[str] = []
    uploader = Uploader(
        staging, store, 0, 1, range(world), KEEP_ALL, None, lambda event: said.append(event["message"]), attempt=name.attempt, claim=claim
    )
    if not uploader.drain(PATIENCE) or uploader.last is None:
        raise BadData("--to", store.uri(), f"the checkpoint was not committed there ({'; '.join(said)})", "Look at the store and try again")
    verify(find(store, str(name)), store)
    return str(name)


def _on_this_machine(config: TrainerConfig, model_dir: Path, *, drawn: bool) -> TrainerConfig:
    """The same layout as processes of this machine, from these files, or `drawn`: with weights that something else takes the place of.

    Nothing is computed, and a checkpoint does not know where it was written: CPU processes, with nothing offloaded; those of an engine that
    needs GPUs one each. Raises BadData.
    """
    device = "cpu"
    if not ENGINE_FACTS[config.engine].on_cpu and not os.environ.get("LLMTRAIN_CUDA_STAND_IN"):
        device, world, here = "cuda", config.mesh.world_size, torch.cuda.device_count()
        if here < world:
            rule = f"engine {config.engine} writes its files on CUDA GPUs only: the layout takes {world}, and here are {here}"
            way_out = "Convert to hf, and give what that writes as spec.model.source of the job: its engine reads it in any layout"
            raise BadData("--to-format", config.engine, rule, way_out)
    model = config.model
    if config.peft is None:
        init = "random" if drawn else "pretrained"
        model = model.model_copy(update={"source": f"file://{model_dir}", "revision": None, "config": None, "init": init})
    return config.model_copy(update={"device": device, "model": model, "offload": None})
