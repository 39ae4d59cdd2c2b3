"""Checks of the node before anything starts, each with one sentence about what is missing."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

from llmtrain_trainer.agent.outcome import LostGangError, StoppedError, UnfitError
from llmtrain_trainer.checkpoint.store.errors import StoreError, StoreFullError
from llmtrain_trainer.checkpoint.store.store import Store
from llmtrain_trainer.config import TrainerConfig, formats
from llmtrain_trainer.config.checkpoint import SAVED_BYTES
from llmtrain_trainer.run_dir.layout import RunDir

_MIB = 1024 * 1024
_SHARED_MEMORY = Path("/dev/shm")
_SHARED_MEMORY_PER_RANK = 32 * _MIB
"""NCCL's buffers between the GPUs of a node; a container's default of 64 MiB in all fails in the middle of a run."""

_LEAST_FREE = 256 * _MIB


def check_machine(config: TrainerConfig, run: RunDir) -> None:
    """Check shared memory and disk space. Raises UnfitError."""
    ranks = config.mesh.procs_per_node
    if config.device == "cuda" and _SHARED_MEMORY.exists():
        size, need = shutil.disk_usage(_SHARED_MEMORY).total, ranks * _SHARED_MEMORY_PER_RANK
        if size < need:
            raise _unfit(
                f"/dev/shm has {formats.size(size)}; {ranks} GPU ranks on a node need {formats.size(need)}. "
                "Mount a memory volume there (emptyDir with medium Memory)."
            )
    try:
        run.root.mkdir(parents=True, exist_ok=True)
        probe = run.root / ".probe"
        probe.write_text("ok")
        probe.unlink()
    except OSError as error:
        raise _unfit(f"The run directory {run.root} cannot be written: {error.strerror}. Give the agent a directory of its own.") from error
    free, need = shutil.disk_usage(run.root).free, _disk_need(config)
    if free < need:
        raise _unfit(
            f"The run directory {run.root} has {formats.size(free)} free; two staged checkpoints of this job need {formats.size(need)}. "
            "Use a larger volume."
        )


def check_store(store: Store, node_rank: int) -> str | None:
    """Write and delete a small object. Returns a sentence if the store is full, because space may be freed. Raises UnfitError."""
    key = f".probe-node-{node_rank}"  # at the top: a directory of probes would go away under the other nodes
    try:
        store.put_bytes(key, b"ok")
        store.delete([key])
    except StoreFullError as error:
        return f"checkpoint.destination {store.uri()} is full: {error} Older checkpoints give way to the next save where they may."
    except StoreError as error:
        raise UnfitError("StoreUnreachable", f"checkpoint.destination {store.uri()} cannot be written: {error}") from error
    return None


def check_rendezvous(host: str, port: int, timeout: float, stopping: Callable[[], bool]) -> None:
    """Wait until node 0's name resolves and its port answers: pods start in any order. Raises LostGangError or StoppedError."""
    until = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection((host, port), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > until:
                raise LostGangError(f"node 0 at {host}:{port} did not answer for {timeout:.0f} s: {error.strerror or error}.") from error
        if stopping():
            raise StoppedError
        time.sleep(0.2)


def _disk_need(config: TrainerConfig) -> int:
    estimate = config.estimate
    trained = estimate.trainable_parameters or estimate.parameters or 0
    if config.checkpoint is None:
        return _LEAST_FREE
    return _LEAST_FREE + 2 * trained * SAVED_BYTES // config.mesh.nodes


def _unfit(message: str) -> UnfitError:
    return UnfitError("PreflightFailed", message)
