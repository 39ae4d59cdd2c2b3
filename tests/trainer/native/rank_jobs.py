"""What ranks do in test_layouts.py; loaded by path in each rank."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.state_dict_saver import save

from llmtrain_trainer.engines import build_engine
from llmtrain_trainer.engines.engine import Engine
from llmtrain_trainer.parallel.launch import load_script

parity = load_script(Path(__file__).parents[3] / "benchmarks" / "parity.py")
STEPS = 3


def traces(cases: Sequence[dict[str, Any]]) -> list[tuple[list[float], list[float], float]]:
    """(losses, norms, evaluation) of each case."""
    results: list[tuple[list[float], list[float], float]] = parity.run_cases([parity.Case(**case) for case in cases], 5)
    return results


def built(case: dict[str, Any], model_dir: Path) -> Engine:
    config = parity.config_of(parity.Case(**case), 2 * STEPS)
    if torch.distributed.get_rank() == 0:
        model_dir.mkdir(parents=True, exist_ok=True)
        (model_dir / "config.json").write_text(json.dumps(config.model.config))
    torch.distributed.barrier()
    return build_engine(config, model_dir)


def steps(engine: Engine, case: dict[str, Any], begin: int) -> list[float]:
    """Losses of STEPS steps."""
    replicas = case.get("dp", 1)
    losses = []
    for step in range(begin, begin + STEPS):
        batch = parity.batch_of(step, engine.replica, replicas, packed=False)
        losses.append(engine.train_step(batch, learning_rate=1e-3, step=step, stop=False).loss)
    return losses


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


def export(cases: Sequence[dict[str, Any]], kinds: Sequence[str], directory: Path) -> list[float]:
    """Train each case a little and export it; its evaluation loss."""
    losses = []
    for number, (case, kind) in enumerate(zip(cases, kinds, strict=True)):
        engine = built(case, directory / "model")
        steps(engine, case, 1)
        engine.export(directory / f"{number}-{kind}", kind)
        total, count = engine.evaluate(parity.batch_of(99, engine.replica, case.get("dp", 1), packed=False))
        losses.append(total / count)
    return losses


def export_start(directory: Path) -> None:
    """The untrained plain model, as somebody's pretrained weights."""
    built({}, directory / "model").export(directory / "weights", "full")


def first_loss_of_pretrained(case: dict[str, Any], directory: Path) -> float:
    """First loss of a model read from `directory`, in a layout."""
    settings = parity.config_of(parity.Case(**case), STEPS).model_dump(by_alias=True)
    settings["model"] = {"source": f"file://{directory}"}
    engine = build_engine(type(parity.config_of(parity.Case(), STEPS)).model_validate(settings), directory)
    return steps(engine, case, 1)[0]
