"""A rank from fork to exit: joins the others, then runs the program of its task and engine.

The environment gives RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT of the agents' own store, and its secret; resume.json
gives the round and the checkpoint. The exit code is an ExitCode.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import time
import traceback
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore

from llmtrain_trainer.checkpoint.position import Position
from llmtrain_trainer.config import RENDEZVOUS_SECRET, ExitCode, TrainerConfig
from llmtrain_trainer.rank.objects import restrict
from llmtrain_trainer.rank.programs import program_of
from llmtrain_trainer.rank.start import Start
from llmtrain_trainer.rendezvous.client import SecretStore
from llmtrain_trainer.run_dir.heartbeat import HeartbeatWriter
from llmtrain_trainer.run_dir.last_words import write_last_words
from llmtrain_trainer.run_dir.layout import RunDir

_CONNECT = timedelta(seconds=120)
_COLLECTIVE = timedelta(minutes=30)
"""Timeout of collectives, longer than any step: the agent's hang watch ends a stuck rank, and records where it was."""


def main(root: str) -> None:
    """Train in run directory `root`. Never returns: ends the process."""
    run, rank = RunDir(Path(root)), int(os.environ["RANK"])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal group; the agent asks by the stop file
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    pulse = HeartbeatWriter(run.heartbeat(rank), rank, os.getpid())
    try:
        pulse.beat("start")
        code = _train(run, pulse)
    except BaseException as error:
        # Exit without synchronising: a collective after a failure never returns, and a destructor may run one.
        with suppress(Exception):
            _say_last(run, rank, error, pulse)
        with suppress(Exception):
            pulse.write(time.time())  # the allocator's last figures
        code = ExitCode.RANK_FAILED
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _say_last(run: RunDir, rank: int, error: BaseException, pulse: HeartbeatWriter) -> None:
    """Log an error of this rank in full, and one caused by another rank in one line: that rank's log has the cause."""
    kind = write_last_words(run.error(rank), error, step=pulse.step, starting=pulse.phase in ("start", "load"))
    if kind == "peer":
        said = str(error).strip().splitlines() or [""]
        print(f"Rank {rank} lost another rank after step {pulse.step}: {type(error).__name__}: {said[0][:300]}", file=sys.stderr)
        print(f"What led to it is in that rank's log; the traceback of this one is in {run.error(rank)}.", file=sys.stderr)
    else:
        traceback.print_exception(error)


def _train(run: RunDir, pulse: HeartbeatWriter) -> ExitCode:
    config = TrainerConfig.model_validate_json(run.config.read_text())
    position = Position.read(run.resume.read_text())
    _join(config, position.round)
    return program_of(config)(Start(config=config, run=run, pulse=pulse, position=position))


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
