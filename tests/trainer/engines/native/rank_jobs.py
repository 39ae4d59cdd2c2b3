"""What ranks do in test_layouts.py; loaded by path in each rank."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.state_dict_saver import save

from llmtrain_trainer.convert.launch import load_script
from llmtrain_trainer.engines import build_engine

engine_jobs = load_script(Path(__file__).parents[1] / "engine_jobs.py")
parity, built, steps, STEPS = engine_jobs.parity, engine_jobs.built, engine_jobs.steps, engine_jobs.STEPS
traces, export, export_start = engine_jobs.traces, engine_jobs.export, engine_jobs.export_start


def stop_asked_by_one(directory: Path) -> list[bool]:
    """Whether rank 0 hears of a stop: without a wish, and when only the last rank wishes."""
    engine = built({"pp": 2}, directory / "model")
    last = torch.distributed.get_rank() == torch.distributed.get_world_size() - 1
    batch = parity.batch_of(1, engine.replica, 1, packed=False)
    return [engine.train_step(batch, learning_rate=1e-3, step=1, stop=wish and last).stop for wish in (False, True)]


def save_and_go_on(case: dict[str, Any], directory: Path) -> list[float]:
    """Train, save, train on: losses after the save."""
    engine = built(case, directory / "model")
    steps(engine, case, 1)
    save(engine.state_dict(), checkpoint_id=str(directory / "checkpoint"))
    return steps(engine, case, STEPS + 1)


def load_and_go_on(cases: Sequence[dict[str, Any]], directory: Path) -> list[list[float]]:
    """In each layout: load what another saved, and train on."""
    losses = []
    for case in cases:
        engine = built(case, directory / "model")
        engine.load_checkpoint(directory / "checkpoint")
        losses.append(steps(engine, case, STEPS + 1))
    return losses


def first_loss_of_pretrained(case: dict[str, Any], directory: Path) -> float:
    """First loss of a model read from `directory`, in a layout."""
    settings = parity.config_of(parity.Case(**case), STEPS).model_dump(by_alias=True)
    settings["model"] = {"source": f"file://{directory}"}
    engine = build_engine(type(parity.config_of(parity.Case(), STEPS)).model_validate(settings), directory)
    return steps(engine, case, 1)[0]
