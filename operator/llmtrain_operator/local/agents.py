"""The agents of a local run as child processes, one per node.

Each agent has its own session, so that a Ctrl-C at the terminal reaches only the command, which then tells the agents to save.
An agent never outlives the command: the kernel kills it when the command dies.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmtrain_operator.local.machine import core_count
from llmtrain_operator.local.trainer import TRAINER
from llmtrain_operator.local.workdir import Workdir
from llmtrain_trainer.config import RENDEZVOUS_SECRET, ExitCode, TrainerConfig
from llmtrain_trainer.config.listen import joined, loopback

PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class AgentProcess:
    """One node."""

    node_rank: int
    port: int
    """Port of its /status and /metrics on the loopback interface."""

    process: subprocess.Popen[bytes]

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Signal the agent if it still runs."""
        if self.alive:
            self.process.send_signal(number)


def start_agents(
    config: TrainerConfig, workdir: Workdir, cache: Path, reserved: Sequence[int], environment: Mapping[str, str] | None = None
) -> list[AgentProcess]:
    """Start one agent for each node of the mesh, with `environment` added to its variables. `reserved`: a port for them to meet at, and
    one for each of them."""
    rendezvous, *ports = reserved
    more = {**(environment or {}), RENDEZVOUS_SECRET: secrets.token_hex(32)}  # other users of this machine cannot read the environment
    return [_start(config, workdir, cache, node_rank, port, rendezvous, more) for node_rank, port in enumerate(ports)]


def exit_code(agents: Sequence[AgentProcess]) -> int:
    """The code of the first agent that failed, else the code for saved, else 0. A signal counts as 128 + its number, as in a shell."""
    codes = [agent.process.wait() for agent in agents]
    codes = [code if code >= 0 else 128 - code for code in codes]
    failures = [code for code in codes if code not in (ExitCode.DONE, ExitCode.SAVED)]
    return next(iter(failures), max(codes))


def kill(agents: Sequence[AgentProcess]) -> None:
    """Kill the agents that still run; their ranks die with them."""
    for agent in agents:
        agent.send(signal.SIGKILL)
    for agent in agents:
        agent.process.wait()


def _start(
    config: TrainerConfig, workdir: Workdir, cache: Path, node_rank: int, port: int, rendezvous: int, more: Mapping[str, str]
) -> AgentProcess:
    run_dir = workdir.node(node_rank)
    command = [*TRAINER, "agent", "--config", str(run_dir / "config.json"), "--run-dir", str(run_dir), "--node-rank", str(node_rank)]
    command += ["--rendezvous", joined(loopback(), rendezvous), "--host", "localhost", "--port", str(port), "--cache", str(cache)]
    log = workdir.agent_log(node_rank)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        # preexec_fn is unsafe with other threads: this command has none when it starts its agents.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**_environment(config, node_rank), **more},
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509
        )
    return AgentProcess(node_rank, port, process)


def _environment(config: TrainerConfig, node_rank: int) -> dict[str, str]:
    threads = max(1, core_count() // config.mesh.world_size) if config.device == "cpu" else 4
    environment = {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "true", "PYTHONUNBUFFERED": "1"} | os.environ
    if config.device == "cuda" and config.mesh.nodes > 1:
        each = config.mesh.procs_per_node
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(str(gpu) for gpu in range(node_rank * each, (node_rank + 1) * each))
    return environment


_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None  # loaded before the fork: a child must not load libraries


def _die_with_parent() -> None:
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
