"""The program of every engine that trains step by step: builds it, loads the checkpoint, runs the training loop."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from llmtrain_trainer.checkpoint.manifest import MANIFEST, Manifest
from llmtrain_trainer.checkpoint.writer import CheckpointWriter
from llmtrain_trainer.config import ExitCode, GpuMemory, TrainerConfig
from llmtrain_trainer.config.tables.engines import ENGINE_FACTS
from llmtrain_trainer.data.mixing.course import Course
from llmtrain_trainer.data.samples import open_samples
from llmtrain_trainer.engines import build_engine
from llmtrain_trainer.engines.engine import Engine
from llmtrain_trainer.engines.own_format import is_own_format
from llmtrain_trainer.prepare.prepare import Prepared
from llmtrain_trainer.rank.health import Health
from llmtrain_trainer.rank.loop import Loop
from llmtrain_trainer.rank.progress import MetricsLog
from llmtrain_trainer.rank.start import Start
from llmtrain_trainer.resume.continuation import record


def step_loop(start: Start) -> ExitCode:
    """Train to the target, or until a stop. Raises BadData where the checkpoint is of another model."""
    config, run, pulse, position = start.config, start.run, start.pulse, start.position
    engine = build_engine(config, run.prepared / "model")
    pulse.beat("load", position.step)
    if position.directory is not None:
        _load(engine, config, Path(position.directory), run.prepared / "model")
    if config.device == "cuda":
        pulse.gpu = _gpu_memory
    prepared = Prepared.load(run.prepared)
    course = position.course or prepared.course(config.training.seed)
    loop = Loop(
        config=config,
        run=run,
        engine=engine,
        samples=open_samples(run.prepared, config, engine.replica, course),
        writer=CheckpointWriter(run.staging) if config.checkpoint is not None else None,
        ranks=_Ranks(),
        pulse=pulse,
        rows=MetricsLog(
            config=config,
            run=run,
            rank=dist.get_rank(),
            world_size=dist.get_world_size(),
            target_steps=position.target_steps,
            passed=course.passed,
            epoch_samples=None if any(dataset.streaming for dataset in prepared.datasets) else prepared.epoch_samples,
        ),
        rank=dist.get_rank(),
        health=Health(limit=config.non_finite_steps),
        step=position.step,
        target_steps=position.target_steps,
        consumed_samples=position.consumed_samples,
        consumed_tokens=position.consumed_tokens,
        name=_names(config.job.attempt, position.round),
        meta=_meta(config, prepared, position.round, course),
    )
    code = loop.train()
    dist.barrier()  # no rank exits while another may still fail: after this line the round has succeeded everywhere
    pulse.beat("done")
    return code


def _load(engine: Engine, config: TrainerConfig, directory: Path, model_dir: Path) -> None:
    """Load weights and optimizer of a fetched checkpoint of any engine. Raises BadData if they belong to another model."""
    meta = Manifest.model_validate_json((directory / MANIFEST).read_bytes()).meta
    if is_own_format(meta, config):
        # The agent compared the models, except where a checkpoint does not describe its model, and which layers have adapters.
        if dist.get_rank() == 0 and (meta.record is None or config.peft is not None):
            from llmtrain_trainer.engines.open_checkpoint import open_source

            open_source(config, directory, model_dir, meta.format)
        engine.load_checkpoint(directory)
        return
    # Imported here because most starts need no reader of another engine's files.
    from llmtrain_trainer.engines.open_checkpoint import open_source

    if dist.get_rank() == 0:
        print(f"Takes over weights and optimizer of step {meta.step} from engine {meta.engine}.", flush=True)
    engine.load_foreign_checkpoint(open_source(config, directory, model_dir, meta.format))


def _gpu_memory() -> GpuMemory:
    """Figures of the CUDA allocator, which it keeps on the host: no wait for the device."""
    stats = torch.cuda.memory_stats()
    return GpuMemory(
        allocated_bytes=stats.get("allocated_bytes.all.peak", 0),
        reserved_bytes=stats.get("reserved_bytes.all.peak", 0),
        alloc_retries=stats.get("num_alloc_retries", 0),
        ooms=stats.get("num_ooms", 0),
    )


class _Ranks:
    """The loop's small agreements, on CPU tensors (gloo)."""

    def from_first(self, value: int) -> int:
        tensor = torch.tensor([value], dtype=torch.int64)
        dist.broadcast(tensor, src=0)
        return int(tensor.item())

    def largest(self, value: int) -> int:
        tensor = torch.tensor([value], dtype=torch.int64)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return int(tensor.item())


def _names(attempt: int, round_number: int) -> Callable[[int], str]:
    return lambda step: f"step-{step:08d}-a{attempt}-r{round_number}"


def _meta(config: TrainerConfig, prepared: Prepared, round_number: int, course: Course) -> dict[str, Any]:
    return {
        "job": config.job.name,
        "attempt": config.job.attempt,
        "round": round_number,
        "engine": config.engine,
        "format": ENGINE_FACTS[config.engine].checkpoint_format,
        "mesh": config.mesh.model_dump(mode="json", by_alias=True),
        "seed": config.training.seed,
        "global_size": config.batch.global_size,
        "config_hash": _sha256(config.model_dump_json(by_alias=True).encode()),
        "tokenizer_hash": prepared.tokenizer_digest,
        "ends": list(prepared.ends),
        "record": record(config, prepared),
        "course": course.model_dump(mode="json", by_alias=True),
        "torch": torch.__version__,
    }


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
