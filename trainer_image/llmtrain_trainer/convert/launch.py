"""Run a function in several ranks on this machine, forked from one warm server.

Importing torch and transformers costs seconds a process; ranks forked from a server that has imported them start at once.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import pickle
import sys
import tempfile
import traceback
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import ModuleType
from typing import Any

from llmtrain_trainer.config.tables.engines import ENGINE_FACTS
from llmtrain_trainer.engines.registry import ENGINES

WARM = [
    "torch",
    "torch.distributed.tensor.parallel",
    *(ENGINES[name].module for name, facts in ENGINE_FACTS.items() if facts.on_cpu),
    "transformers.models.llama.modeling_llama",
]


def launch(script: Path, function: str, world: int, *arguments: Any, timeout: float = 300.0, backend: str = "gloo") -> Any:
    """What `function` of the file `script` returns on rank 0 of `world` ranks, given picklable arguments. With NCCL each has a GPU.

    Raises RuntimeError with the traceback of the first rank that failed, or when the ranks are not done after `timeout` seconds.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(WARM)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # DeepSpeed would look for a GPU
    with tempfile.TemporaryDirectory() as meeting:
        pipes = [context.Pipe(duplex=False) for _ in range(world)]
        # Pickled here and read after the script is loaded: the arguments may be of its own types.
        packed = pickle.dumps(arguments)
        ranks = [
            context.Process(target=_rank, args=(script, function, rank, world, meeting, backend, pipe[1], packed), daemon=True)
            for rank, pipe in enumerate(pipes)
        ]
        for process in ranks:
            process.start()
        for _, ours in pipes:
            ours.close()
        try:
            return _collect([theirs for theirs, _ in pipes], timeout)
        finally:
            for process in ranks:
                process.join(timeout=5)
                if process.is_alive():
                    process.kill()
                    process.join()


def _collect(pipes: list[Connection], timeout: float) -> Any:
    """Rank 0's result, once every rank has answered; the first failure ends the wait."""
    open_pipes, result = list(pipes), None
    while open_pipes:
        ready = wait(open_pipes, timeout)
        if not ready:
            raise RuntimeError(f"{len(open_pipes)} of {len(pipes)} ranks did not answer within {timeout:.0f} s")
        for pipe in ready:
            assert isinstance(pipe, Connection)
            rank = pipes.index(pipe)
            try:
                failure, value = pipe.recv()
            except EOFError:
                failure, value = "it ended without an answer", None
            if failure:
                raise RuntimeError(f"rank {rank} of {len(pipes)} failed: {failure}")
            if rank == 0:
                result = value
            open_pipes.remove(pipe)
    return result


def load_script(path: Path) -> ModuleType:
    """A file as a module under its own name, from anywhere: benchmarks and tests are no packages."""
    if path.stem in sys.modules:
        return sys.modules[path.stem]
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[path.stem] = module  # dataclasses and pickle look their module up there
    specification.loader.exec_module(module)
    return module


def _rank(script: Path, function: str, rank: int, world: int, meeting: str, backend: str, answer: Connection, arguments: bytes) -> None:
    import torch
    import torch.distributed as dist

    from llmtrain_trainer.rank.objects import restrict

    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    try:
        module = load_script(script)
        if "nccl" in backend:
            torch.cuda.set_device(rank)
        restrict()
        dist.init_process_group(backend, init_method=f"file://{meeting}/store", rank=rank, world_size=world)
        result = getattr(module, function)(*pickle.loads(arguments))
        dist.barrier()
        answer.send((None, result if rank == 0 else None))
    except Exception:
        answer.send((traceback.format_exc(), None))
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
