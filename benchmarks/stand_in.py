"""Lets ranks run engine megatron on a CPU, with the module of the tests that stands in for CUDA. Called by parity.py and memory.py."""

from __future__ import annotations

import os
import sys
from pathlib import Path

STAND_IN = Path(__file__).parents[1] / "tests" / "trainer" / "megatron" / "cuda_stand_in.py"
"""Megatron asks for CUDA by name: figures show its arithmetic, its groups and its tensors, not its kernels."""


def stand_in_for_cuda() -> None:
    """In a rank, before its engine is built."""
    sys.path.append(str(STAND_IN.parent))
    os.environ["LLMTRAIN_CUDA_STAND_IN"] = STAND_IN.stem
