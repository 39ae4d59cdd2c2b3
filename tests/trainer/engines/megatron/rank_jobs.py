"""What ranks do in the tests of engine megatron; loaded by path in each rank. A case is what benchmarks/parity.py calls one."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.convert.launch import load_script
from llmtrain_trainer.engines import build_engine

sys.path.insert(0, str(Path(__file__).parent))
os.environ["LLMTRAIN_CUDA_STAND_IN"] = "cuda_stand_in"
engine_jobs = load_script(Path(__file__).parents[1] / "engine_jobs.py")
parity = engine_jobs.parity
Case = dict[str, Any]
traces, load_and_go_on = engine_jobs.traces, engine_jobs.load_and_go_on
adopt_and_go_on, adopt_and_save = engine_jobs.adopt_and_go_on, engine_jobs.adopt_and_save


def several(calls: Sequence[tuple[str, tuple[Any, ...]]]) -> list[Any]:
    """What each of these functions of this file returns: one import of Megatron for all of them."""
    return [globals()[name](*arguments) for name, arguments in calls]


class Refusing(logging.Handler):
    """Megatron warns at every save of what differs between ranks and should not."""

    def emit(self, record: logging.LogRecord) -> None:
        raise AssertionError(record.getMessage())


def left_out(case: Case, directory: Path) -> tuple[list[bool], bool, bool]:
    """See engine_jobs.py."""
    found: tuple[list[bool], bool, bool] = engine_jobs.left_out(case, directory, lambda engine: [*engine._chunks[0].module.parameters()])
    return found


def save_and_go_on(cases: Sequence[Case], directory: Path) -> list[list[float]]:
    """Train, save without a warning, train on: losses after the save."""
    logging.getLogger("megatron.core.dist_checkpointing.validation").addHandler(Refusing(logging.WARNING))
    losses: list[list[float]] = engine_jobs.save_and_go_on(cases, directory)
    return losses


def pretrained(case: Case, weights: Path, ids: torch.Tensor, out: Path) -> torch.Tensor | None:
    """Read published weights, write them again to `out`, and give logits of `ids`: on one rank only, None on several."""
    settings = parity.config_of(parity.Case(**case), engine_jobs.STEPS).model_dump(by_alias=True)
    settings["model"] = {"source": f"file://{weights}"}
    engine = build_engine(TrainerConfig.model_validate(settings), weights)
    engine.export(out, "full")
    if dist.get_world_size() > 1:
        return None
    (chunk,) = engine._chunks  # what a whole model says of tokens is not of the Protocol
    with torch.no_grad():
        logits: torch.Tensor = chunk.eval()(ids, torch.arange(ids.shape[1]).expand_as(ids), None)
    return logits


def pretrained_of_each(cases: Sequence[Case], directory: Path, ids: torch.Tensor) -> list[torch.Tensor | None]:
    """`pretrained` of directory/<number>/weights, exported beside it."""
    out = f"exported-{dist.get_world_size()}"
    found = []
    for number, case in enumerate(cases):
        found.append(pretrained(case, directory / f"{number}" / "weights", ids, directory / f"{number}" / out))
    return found
