"""Peak memory of a rank."""

from __future__ import annotations

import resource

import torch


def peak_bytes(device: torch.device) -> int:
    """Peak memory of this process so far, in bytes: of the CUDA allocator, or the resident set on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
