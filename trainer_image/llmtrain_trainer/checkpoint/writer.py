"""A rank's side of a checkpoint: copy the state to host memory, continue training, write the shards in the background.

The shards go to local disk; the agent of the node uploads them. A rank never speaks to the store.
"""

from __future__ import annotations

import copy
import json
import os
import threading
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

from llmtrain_trainer.checkpoint.manifest import META, METADATA, RankPart, encode, rank_file
from llmtrain_trainer.rendezvous.tell_all import from_first

PATIENCE = timedelta(minutes=30)
"""Seconds that a rank waits for the slowest disk of the gang before the save counts as failed."""


class CheckpointWriter:
    """One per rank, made by all ranks together after init_process_group."""

    def __init__(self, staging: Path) -> None:
        self._staging = staging
        # A group of its own: its collectives run in a thread beside training and must not mix with the training's.
        self._group = dist.new_group(backend="gloo", timeout=PATIENCE)
        self._buffer: Any = None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._began = 0.0

    def save(self, name: str, state: dict[str, Any], meta: dict[str, Any]) -> float:
        """Collective. Copy `state` and write it to staging/<name>/ in the background. Returns seconds that training was blocked.

        meta: what `manifest.Meta` reads. A save that is still running is waited for; one that failed raises RuntimeError here.
        """
        began = time.perf_counter()
        self.finish()
        self._buffer = snapshot(state, self._buffer)
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # the copies to pinned memory are queued, and training is about to overwrite their source
        buffer = self._buffer
        self._behind(name, lambda: self._write(self._staging / name, buffer, meta))
        return time.perf_counter() - began

    def save_files(self, name: str, write: Callable[[Path], None], meta: dict[str, Any]) -> float:
        """Collective. Save for an engine that writes its own files: `write` writes this rank's files into the directory that it gets.

        Only syncing them, and the marker, happen in the background.
        """
        began = time.perf_counter()
        self.finish()
        draft = self._staging / name / f".draft-{dist.get_rank()}"
        draft.mkdir(parents=True)
        write(draft)
        self._behind(name, lambda: self._keep(draft, meta))
        return time.perf_counter() - began

    def finish(self) -> None:
        """Wait for the save that is running. Raises RuntimeError if it failed."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise RuntimeError(
                f"The checkpoint could not be written to {self._staging}: {error}. Check the space and the rights there."
            ) from error

    def _behind(self, name: str, act: Callable[[], None]) -> None:
        """Run the rest of a save in the background."""

        def run() -> None:
            try:
                act()
            except BaseException as error:  # any error is raised at the next save
                self._error = error

        self._began = time.perf_counter()
        self._thread = threading.Thread(target=run, name=f"save {name}", daemon=True)
        self._thread.start()

    def _write(self, directory: Path, state: dict[str, Any], meta: dict[str, Any]) -> None:
        save_id = self._draw()
        # One file a rank, synced once: a marker must not outlive its shard when the machine loses power.
        save(state, storage_writer=FileSystemWriter(directory), process_group=self._group)
        files = sorted(directory.glob(f"__{dist.get_rank()}_*"))
        if dist.get_rank() == 0:
            files.append(directory / METADATA)
        self._mark(directory, files, save_id, meta)

    def _keep(self, draft: Path, meta: dict[str, Any]) -> None:
        """Move this rank's files, synced, to those of the other ranks of the node. Raises ValueError for a name that is there already."""
        save_id, directory, files = self._draw(), draft.parent, []
        for file in sorted(draft.iterdir()):
            target = directory / file.name
            if target.exists() or file.is_dir():
                raise ValueError(f"{file.name} was written by two ranks, or is a directory")
            with file.open("rb") as written:
                os.fsync(written.fileno())
            files.append(file.rename(target))
        draft.rmdir()
        self._mark(directory, files, save_id, meta)

    def _draw(self) -> str:
        """The id of this save, equal on all ranks."""
        return str(from_first(uuid.uuid4().hex, self._group))

    def _mark(self, directory: Path, files: list[Path], save_id: str, meta: dict[str, Any]) -> None:
        """Write the marker of this rank: its files are complete."""
        rank = dist.get_rank()
        if rank == 0:
            (directory / META).write_text(json.dumps(meta))
        sizes = {file.name: file.stat().st_size for file in files}
        seconds = time.perf_counter() - self._began
        part = RankPart(rank=rank, world_size=dist.get_world_size(), save_id=save_id, files=sizes, seconds=seconds)
        _publish(directory / rank_file(rank), encode(part))


def snapshot(value: Any, buffer: Any) -> Any:
    """A copy of nested dicts and lists of tensors in host memory, in `buffer` (an earlier snapshot) wherever its shapes fit.

    Copying into existing memory is several times faster than into new pages, and training waits for this copy.
    """
    if isinstance(value, dict):
        old = buffer if isinstance(buffer, dict) else {}
        return {key: snapshot(item, old.get(key)) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        old_items = buffer if isinstance(buffer, (list, tuple)) and len(buffer) == len(value) else [None] * len(value)
        return type(value)(snapshot(item, old_item) for item, old_item in zip(value, old_items, strict=True))
    if isinstance(value, torch.Tensor):
        return _tensor(value.detach(), buffer)
    return copy.deepcopy(value)


def _tensor(value: torch.Tensor, buffer: Any) -> torch.Tensor:
    if isinstance(value, DTensor):
        fits = isinstance(buffer, DTensor) and buffer.placements == value.placements and _alike(value.to_local(), buffer.to_local())
        target = buffer if fits else value.to("cpu", copy=True)
        _copy(value.to_local(), cast(DTensor, target).to_local())
    else:
        fits = type(buffer) is torch.Tensor and _alike(value, buffer)
        target = buffer if fits else torch.empty_like(value, device="cpu", pin_memory=value.is_cuda)
        _copy(value, target)
    return cast(torch.Tensor, target)


def _copy(source: torch.Tensor, target: torch.Tensor) -> None:
    target.copy_(source, non_blocking=source.is_cuda)


def _alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype


def _publish(path: Path, data: bytes) -> None:
    """Write, sync, rename: the marker is the promise that the shard is durable."""
    draft = path.with_name(f".{path.name}")
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
