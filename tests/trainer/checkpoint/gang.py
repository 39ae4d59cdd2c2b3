"""Stands for the ranks and agents of a gang: stages saves as ranks do and runs real uploaders. Used by the checkpoint tests."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

from torch.distributed.checkpoint.metadata import Metadata

from llmtrain_trainer.checkpoint.manifest import META, METADATA, Name, RankPart, encode, rank_file
from llmtrain_trainer.checkpoint.store.store import Store
from llmtrain_trainer.checkpoint.uploader import Uploader

INDEX = pickle.dumps(Metadata({}, storage_data={}))
"""Of a save without tensors; shards are bytes that nobody loads."""


FACTS: dict[str, Any] = {}
"""What the ranks say of a save besides."""


class Gang:
    """`nodes` nodes with two ranks each; every node has its own staging directory and its own uploader."""

    def __init__(
        self, root: Path, store: Store, nodes: int = 1, keep: int = 2, keep_every_steps: int | None = None, **options: Any
    ) -> None:
        self.store, self.nodes, self.events = store, nodes, list[dict[str, Any]]()
        self.runs = [root / f"run-{node}" for node in range(nodes)]
        self.uploaders = [
            Uploader(self.staging(node), store, node, nodes, self.ranks(node), keep, keep_every_steps, self.events.append, **options)
            for node in range(nodes)
        ]

    def staging(self, node: int = 0) -> Path:
        return self.runs[node] / "staging"

    def ranks(self, node: int) -> tuple[int, int]:
        return (2 * node, 2 * node + 1)

    def stage(self, name: str, *, size: int = 1000, save_id: str | None = None, nodes: list[int] | None = None, ranks: int = 2) -> None:
        """What `ranks` of the two ranks of each node write for one save; fewer than two is a torn save."""
        for node in range(self.nodes) if nodes is None else nodes:
            for rank in self.ranks(node)[:ranks]:
                write_rank(self.staging(node) / name, rank, 2 * self.nodes, size, save_id or f"save of {name}")

    def poll(self) -> None:
        for uploader in self.uploaders:
            uploader.poll()

    def save(self, name: str, **options: Any) -> None:
        """Stage and upload to the end. With several nodes the first polls again, since it needs the others' parts."""
        self.stage(name, **options)
        self.poll()
        self.poll()

    def told(self, kind: str) -> list[str]:
        """Messages of one kind, in order."""
        return [event["message"] for event in self.events if event["kind"] == kind]

    def names(self) -> list[str]:
        """The checkpoints in the store, committed or not."""
        return sorted({entry.key.partition("/")[0] for entry in self.store.entries() if "/" in entry.key})

    def committed(self) -> list[str]:
        return [entry.key.partition("/")[0] for entry in self.store.entries() if entry.key.endswith("/COMMIT")]


def write_rank(directory: Path, rank: int, world_size: int, size: int, save_id: str) -> None:
    """The files of one rank, the marker last."""
    directory.mkdir(parents=True, exist_ok=True)
    shard = directory / f"__{rank}_0.distcp"
    shard.write_bytes(content(directory.name, rank, size))
    files = {shard.name: size}
    if rank == 0:
        name = Name.parse(directory.name)
        assert name is not None
        (directory / META).write_text(
            json.dumps({"step": name.step, "consumed_samples": 8 * name.step, "mesh": {"dp": world_size}, **FACTS})
        )
        (directory / METADATA).write_bytes(INDEX)
        files[METADATA] = len(INDEX)
    (directory / rank_file(rank)).write_bytes(encode(RankPart(rank=rank, world_size=world_size, save_id=save_id, files=files)))


def content(name: str, rank: int, size: int) -> bytes:
    """Bytes that differ from save to save and from rank to rank."""
    pattern = f"{name} rank {rank} ".encode()
    return (pattern * (size // len(pattern) + 1))[:size]


def damage(store: Store, key: str, *, change: str) -> None:
    """Do to a stored object what a bad disk or a torn upload does: flip a bit, cut it short, or remove it."""
    if change == "remove":
        store.delete([key])
        return
    data = bytearray(store.get_bytes(key))
    if change == "flip":
        data[len(data) // 2] ^= 1
    store.put_bytes(key, bytes(data if change == "flip" else data[: len(data) // 2]))
