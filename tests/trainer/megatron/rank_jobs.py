"""What ranks do in the tests of engine megatron; loaded by path in each rank. A case is what benchmarks/parity.py calls one."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from llmtrain_trainer.checkpoint.writer import Writer
from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.engines import build_engine
from llmtrain_trainer.parallel.launch import load_script

sys.path.insert(0, str(Path(__file__).parent))
os.environ["LLMTRAIN_CUDA_STAND_IN"] = "cuda_stand_in"
parity = load_script(Path(__file__).parents[3] / "benchmarks" / "parity.py")
STEPS = 3
NAME = "step-00000003-a0-r0"
Case = dict[str, Any]


def several(calls: Sequence[tuple[str, tuple[Any, ...]]]) -> list[Any]:
    """What each of these functions of this file returns: one import of Megatron for all of them."""
    return [globals()[name](*arguments) for name, arguments in calls]


def traces(cases: Sequence[Case]) -> list[tuple[list[float], list[float], float]]:
    """(losses, norms, evaluation) of each case."""
    results: list[tuple[list[float], list[float], float]] = parity.run_cases([parity.Case(**case) for case in cases], 5)
    return results


def built(case: Case, model_dir: Path) -> Any:
    config = parity.config_of(parity.Case(**case), 2 * STEPS)
    if dist.get_rank() == 0:
        model_dir.mkdir(parents=True, exist_ok=True)
        (model_dir / "config.json").write_text(json.dumps(config.model.config))
    dist.barrier()
    return build_engine(config, model_dir)


def steps(engine: Any, case: Case, begin: int) -> list[float]:
    """Losses of STEPS steps."""
    losses = []
    for step in range(begin, begin + STEPS):
        batch = parity.batch_of(step, engine.replica, case.get("dp", 1), packed=False)
        losses.append(engine.train_step(batch, learning_rate=1e-3, step=step, stop=False).loss)
    return losses


class Refusing(logging.Handler):
    """Megatron warns at every save of what differs between ranks and should not."""

    def emit(self, record: logging.LogRecord) -> None:
        raise AssertionError(record.getMessage())


def save_and_go_on(cases: Sequence[Case], directory: Path) -> list[list[float]]:
    """Train, save without a warning, train on: losses after the save."""
    logging.getLogger("megatron.core.dist_checkpointing.validation").addHandler(Refusing(logging.WARNING))
    losses = []
    for number, case in enumerate(cases):
        engine = built(case, directory / f"{number}" / "model")
        steps(engine, case, 1)
        writer = Writer(directory / f"{number}")
        writer.save_files(NAME, engine.save_files, {"step": STEPS, "format": "megatron"})
        writer.finish()
        losses.append(steps(engine, case, STEPS + 1))
    return losses


def load_and_go_on(cases: Sequence[tuple[int, Case]], directory: Path) -> list[list[float]]:
    """In each layout: load what saved case `number` wrote, and train on."""
    losses = []
    for number, case in cases:
        engine = built(case, directory / f"{number}" / "model")
        engine.load_checkpoint(directory / f"{number}" / NAME)
        losses.append(steps(engine, case, STEPS + 1))
    return losses


def pretrained(case: Case, weights: Path, ids: torch.Tensor, out: Path) -> torch.Tensor | None:
    """Read published weights, write them again to `out`, and give logits of `ids`: on one rank only, None on several."""
    settings = parity.config_of(parity.Case(**case), STEPS).model_dump(by_alias=True)
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
