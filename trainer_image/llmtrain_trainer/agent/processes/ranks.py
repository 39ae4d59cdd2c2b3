"""This node's ranks as processes, forked from a warm server that has imported torch.

multiprocessing's own forkserver does the forking. A chain of parent-death signals (agent, server, rank) makes sure that nothing
outlives the agent, not even when it is killed: the server's own alive-pipe alone would not do, since ranks hold it open too.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver, resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path

from llmtrain_trainer.agent.processes.orphans import die_with_parent
from llmtrain_trainer.agent.processes.variables import MODULES, PARENT, SERVER

HEAVY = ("torch._dynamo", "llmtrain_trainer.prepare.prepare", "llmtrain_trainer.rank.main")
"""Modules that every rank imports, including its optimizer and DTensor dispatch."""

_CONTEXT = multiprocessing.get_context("forkserver")


def start_server(modules: Sequence[str]) -> None:
    """Start the server; it imports `modules` while this process continues. Call it on the main thread."""
    os.environ[PARENT] = str(os.getpid())
    os.environ[MODULES] = ",".join(modules)
    _CONTEXT.set_forkserver_preload(["llmtrain_trainer.agent.processes.warm"])
    forkserver.ensure_running()


def server_processes() -> set[int]:
    """Children of this process that multiprocessing itself waits for: the server and its resource tracker."""
    pids = (forkserver._forkserver._forkserver_pid, resource_tracker._resource_tracker._pid)  # type: ignore[attr-defined]
    return {pid for pid in pids if pid is not None}


def fork(entry: str, root: Path, environment: Mapping[str, str], log: Path) -> BaseProcess:
    """Run `entry` (module:function, called with the run directory) in a child of the warm server, its output appended to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    process = _CONTEXT.Process(target=_enter, args=(entry, str(root), dict(environment), str(log)))
    process.start()
    return process


def _enter(entry: str, root: str, environment: dict[str, str], log: str) -> None:
    """First lines of a child. The entry comes by name, so that the agent need not import what the child runs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches every process; only the agent acts on it
    die_with_parent(int(os.environ[SERVER]))
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(output, stream.fileno())
    os.environ.update(environment)
    module, _, function = entry.partition(":")
    getattr(importlib.import_module(module), function)(root)


class RankProcesses:
    """The ranks of one round on this node."""

    def __init__(self, processes: Mapping[int, BaseProcess]) -> None:
        """`processes` by global rank."""
        self._processes = dict(processes)

    def pids(self) -> dict[int, int]:
        """Process ids by global rank."""
        return {rank: process.pid for rank, process in self._processes.items() if process.pid is not None}

    def exit_codes(self) -> dict[int, int]:
        """Exit codes of the ranks that ended; negative: the signal."""
        return {rank: process.exitcode for rank, process in self._processes.items() if process.exitcode is not None}

    def __len__(self) -> int:
        """Number of ranks, ended or not."""
        return len(self._processes)

    def dump_stacks(self) -> None:
        """Every rank that can still run Python's signal handler in C writes its stacks to its log."""
        for process in self._processes.values():
            if process.exitcode is None and process.pid is not None:
                os.kill(process.pid, signal.SIGUSR1)

    def kill(self, timeout: float = 30.0) -> None:
        """SIGKILL at once: ranks may hang in a collective, and their last errors are written already."""
        for process in self._processes.values():
            if process.exitcode is None:
                process.kill()
        for process in self._processes.values():
            process.join(timeout)
