"""What ranks tell each other besides tensors: JSON in tensors of bytes. torch's own way would unpickle what it receives."""

from __future__ import annotations

import json
from typing import Any

import torch
import torch.distributed as dist


def from_first(value: Any, group: dist.ProcessGroup | None = None) -> Any:
    """Rank 0's value, on every rank. Collective over `group`; values are what JSON can hold."""
    return from_each(value if dist.get_rank() == 0 else None, group)[0]


def from_each(value: Any, group: dist.ProcessGroup | None = None) -> list[Any]:
    """Every rank's value, by rank. Collective over `group`, on the CPU; tuples arrive as lists."""
    mine = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
    world = dist.get_world_size(group)
    lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(world)]
    dist.all_gather(lengths, torch.tensor([len(mine)]), group=group)
    longest = max(int(length) for length in lengths)
    padded = torch.zeros(longest, dtype=torch.uint8)
    padded[: len(mine)] = mine
    parts = [torch.zeros(longest, dtype=torch.uint8) for _ in range(world)]
    dist.all_gather(parts, padded, group=group)
    return [json.loads(part[: int(length)].numpy().tobytes()) for part, length in zip(parts, lengths, strict=True)]
