"""Builds an engine in a rank from its configuration alone. Called by parity.py, memory.py, step_time.py and gpu.py."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from llmtrain_trainer.config import TrainerConfig

STAND_IN = Path(__file__).parents[1] / "tests" / "trainer" / "engines" / "megatron" / "cuda_stand_in.py"
"""Megatron asks for CUDA by name: on a CPU figures show its arithmetic, its groups and its tensors, not its kernels."""


def engine_of(config: TrainerConfig) -> Any:
    """The engine, with the random weights of a shape that is written in the manifest."""
    if config.engine == "megatron" and config.device == "cpu":
        _stand_in_for_cuda()
    from llmtrain_trainer.engines import build_engine

    with tempfile.TemporaryDirectory() as model_dir:
        (Path(model_dir) / "config.json").write_text(json.dumps(config.model.config))
        return build_engine(config, Path(model_dir))


def _stand_in_for_cuda() -> None:
    """Let this rank run Megatron on a CPU, with the module of the tests that stands in for CUDA."""
    if str(STAND_IN.parent) not in sys.path:
        sys.path.append(str(STAND_IN.parent))
    os.environ["LLMTRAIN_CUDA_STAND_IN"] = STAND_IN.stem
