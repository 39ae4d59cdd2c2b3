"""A rank from fork to exit: joins the others, builds the engine, loads the checkpoint, trains.

The environment gives RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT of the agents' own store, and its secret; resume.json
gives the round and the checkpoint. The exit code is an ExitCode.
"""

from __future__ import annotations

import faulthandler
import hashlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore

from llmtrain_trainer.checkpoint.manifest import MANIFEST, Manifest
from llmtrain_trainer.checkpoint.position import Position
from llmtrain_trainer.checkpoint.writer import Writer
from llmtrain_trainer.config import RENDEZVOUS_SECRET, ExitCode, GpuMemory, TrainerConfig
from llmtrain_trainer.config.engines import ENGINE_FACTS
from llmtrain_trainer.data.course import Course
from llmtrain_trainer.data.samples import open_samples
from llmtrain_trainer.engines import build_engine
from llmtrain_trainer.engines.engine import Engine
from llmtrain_trainer.engines.own_format import is_own_format
from llmtrain_trainer.prepare.prepare import Prepared
from llmtrain_trainer.rank.health import Health
from llmtrain_trainer.rank.loop import Loop
from llmtrain_trainer.rank.objects import restrict
from llmtrain_trainer.rank.progress import Rows
from llmtrain_trainer.rendezvous.client import SecretStore
from llmtrain_trainer.resume.continuation import record
from llmtrain_trainer.run_dir.heartbeat import Pulse
from llmtrain_trainer.run_dir.last_words import write_last_words
from llmtrain_trainer.run_dir.layout import RunDir

_CONNECT = timedelta(seconds=120)
_COLLECTIVE = timedelta(minutes=30)
"""Longer than any step: the agent's hang watch is what ends a stuck rank, and it says where it stood."""


def main(root: str) -> None:
    """Train in run directory `root`. Never returns: ends the process."""
    run, rank = RunDir(Path(root)), int(os.environ["RANK"])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal group; the agent asks by the stop file
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    pulse = Pulse(run.heartbeat(rank), rank, os.getpid())
    try:
        pulse.beat("start")
        code = _train(run, pulse)
    except BaseException as error:
        # No farewell to the others: a collective after a failure waits for ever, and a destructor may contain one.
        with suppress(Exception):
            _say_last(run, rank, error, pulse)
        with suppress(Exception):
            pulse.write(time.time())  # the allocator's last figures
        code = ExitCode.RANK_FAILED
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _say_last(run: RunDir, rank: int, error: BaseException, pulse: Pulse) -> None:
    """The whole of an error of this rank's own into its log; of one about another rank, whose log has the cause, a line."""
    kind = write_last_words(run.error(rank), error, step=pulse.step, starting=pulse.phase in ("start", "load"))
    if kind == "peer":
        said = str(error).strip().splitlines() or [""]
        print(f"Rank {rank} lost another rank after step {pulse.step}: {type(error).__name__}: {said[0][:300]}", file=sys.stderr)
        print(f"What led to it is in that rank's log; the traceback of this one is in {run.error(rank)}.", file=sys.stderr)
    else:
        traceback.print_exception(error)


def _train(run: RunDir, pulse: Pulse) -> ExitCode:
    config = TrainerConfig.model_validate_json(run.config.read_text())
    position = Position.read(run.resume.read_text())
    _join(config, position.round)
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
        writer=Writer(run.staging) if config.checkpoint is not None else None,
        ranks=_Ranks(),
        pulse=pulse,
        rows=Rows(
            config=config,
            run=run,
            rank=dist.get_rank(),
            world_size=dist.get_world_size(),
            target_steps=position.target_steps,
            passed=course.passed,
            epoch_samples=None if any(dataset.streaming for dataset in prepared.datasets) else prepared.train_samples,
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
    dist.barrier()  # nobody leaves while another may still fail: after this line the round has succeeded everywhere
    pulse.beat("done")
    return code


def _load(engine: Engine, config: TrainerConfig, directory: Path, model_dir: Path) -> None:
    """Weights and optimizer of a fetched checkpoint, whoever wrote it. Raises BadData where they are of another model."""
    meta = Manifest.model_validate_json((directory / MANIFEST).read_bytes()).meta
    if is_own_format(meta, config):
        # The agent compared the models, but where the checkpoint does not describe its own, and for which layers have adapters.
        if dist.get_rank() == 0 and (meta.record is None or config.peft is not None):
            from llmtrain_trainer.engines.open_checkpoint import open_source

            open_source(config, directory, model_dir, meta.format)
        engine.load_checkpoint(directory)
        return
    # What reads other engines' files is imported here: most starts need none of it.
    from llmtrain_trainer.engines.open_checkpoint import open_source

    if dist.get_rank() == 0:
        print(f"Takes over weights and optimizer of step {meta.step} from engine {meta.engine}.", flush=True)
    engine.adopt(open_source(config, directory, model_dir, meta.format))


def _join(config: TrainerConfig, round_number: int) -> None:
    """Meet the other ranks through the agents' store, under names that no earlier round used."""
    if config.device == "cpu":
        torch.set_num_threads(1)
        backend = "gloo"
    else:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl"
    restrict()
    secret = os.environ[RENDEZVOUS_SECRET].encode()
    store = SecretStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), secret, _CONNECT)
    dist.init_process_group(
        backend,
        store=PrefixStore(f"ranks/{config.job.attempt}/{round_number}", store),
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
        timeout=_COLLECTIVE,
    )


def _gpu_memory() -> GpuMemory:
    """What the allocator says of itself; asks the host's own books, not the device."""
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
