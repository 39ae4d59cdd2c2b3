"""What ranks of every engine do in tests: lay a case out, train, save, go on, export. Loaded by the rank_jobs.py of each engine.

A case is what benchmarks/parity.py calls one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor
from torch.nn.functional import cross_entropy

from llmtrain_trainer.checkpoint.writer import CheckpointWriter
from llmtrain_trainer.checkpoint_readers.reader import CheckpointReader
from llmtrain_trainer.config.tables.engines import ENGINE_FACTS
from llmtrain_trainer.convert.launch import load_script
from llmtrain_trainer.engines import build_engine
from llmtrain_trainer.engines.open_checkpoint import open_source
from llmtrain_trainer.objectives import OBJECTIVES
from llmtrain_trainer.objectives.causal_lm import CausalLm
from llmtrain_trainer.objectives.objective import Batch, Loss

parity = load_script(Path(__file__).parents[3] / "benchmarks" / "parity.py")
STEPS = 3
NAME = "step-00000003-a0-r0"
Case = dict[str, Any]


Trace = tuple[list[float], list[float], float, list[float]]


class Measuring(CausalLm):
    """Causal LM that also measures the square of each target's cross entropy."""

    metrics = ("squared",)

    def loss(self, outputs: torch.Tensor, batch: Batch) -> Loss:
        logits = outputs.detach()
        logits = logits.full_tensor() if isinstance(logits, DTensor) else logits
        each = cross_entropy(logits.flatten(0, 1).float(), batch["labels"].flatten(), reduction="none")
        return super().loss(outputs, batch)._replace(metrics={"squared": (each**2).sum()})

    def loss_of_tokens(self, losses: torch.Tensor, batch: Batch) -> Loss:
        each = losses.detach().float() * (batch["labels"] != -100)
        return super().loss_of_tokens(losses, batch)._replace(metrics={"squared": (each**2).sum()})


def traces(cases: Sequence[Case]) -> list[Trace]:
    """(losses, norms, evaluation, metrics) of each case; metrics where it says `measured`."""
    return [_trace(dict(case)) for case in cases]


def _trace(case: Case) -> Trace:
    plain = OBJECTIVES["pretrain"]
    OBJECTIVES["pretrain"] = Measuring() if case.pop("measured", False) else plain
    try:
        trace: Trace = parity.run_case(parity.Case(**case), 5)
        return trace
    finally:
        OBJECTIVES["pretrain"] = plain


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
        batch = parity.batch_for(parity.Case(**case), step, engine.replica, case.get("dp", 1))
        losses.append(engine.train_step(batch, learning_rate=1e-3, step=step, stop=False).loss)
    return losses


def left_out(case: Case, directory: Path, weights: Callable[[Any], Sequence[torch.Tensor]]) -> tuple[list[bool], bool, bool]:
    """Three steps, of which the second has a gradient that is not finite on this rank: which were left out, whether the second left the
    weights as they were, and whether the third moved them. weights: what an engine trains, with a hook for its gradient."""
    engine, skipped, stayed, same = built(case, directory), list[bool](), False, False
    for step in (1, 2, 3):
        before = [weight.detach().clone() for weight in weights(engine)]
        hook = weights(engine)[-1].register_hook(lambda gradient: gradient * math.nan) if step == 2 else None
        batch = parity.batch_of(step, engine.replica, case.get("dp", 1), packed=False)
        skipped.append(engine.train_step(batch, learning_rate=1e-3, step=step, stop=False).skipped)
        if hook is not None:
            hook.remove()
        same = all(torch.equal(old, weight) for old, weight in zip(before, weights(engine), strict=True))
        stayed = same if step == 2 else stayed
    return skipped, stayed, not same


def save_and_go_on(cases: Sequence[Case], directory: Path) -> list[list[float]]:
    """Train, save, train on: losses after the save."""
    losses = []
    for number, case in enumerate(cases):
        engine = built(case, directory / f"{number}" / "model")
        steps(engine, case, 1)
        _save(engine, case, directory / f"{number}")
        losses.append(steps(engine, case, STEPS + 1))
    return losses


def _save(engine: Any, case: Case, directory: Path) -> None:
    writer, meta = CheckpointWriter(directory), {"step": STEPS, "format": ENGINE_FACTS[case.get("engine", "native")].checkpoint_format}
    if engine.saves == "state":
        writer.save(NAME, engine.state_dict(), meta)
    else:
        writer.save_files(NAME, engine.save_files, meta)
    writer.finish()


def save_and_export(cases: Sequence[Case], kinds: Sequence[str], directory: Path) -> None:
    """Train each case a little, save, and export the same weights."""
    for number, (case, kind) in enumerate(zip(cases, kinds, strict=True)):
        engine = built(case, directory / f"{number}" / "model")
        steps(engine, case, 1)
        _save(engine, case, directory / f"{number}")
        engine.export(directory / f"{number}" / "exported", kind)


def load_and_go_on(cases: Iterable[tuple[int, Case]], directory: Path, place: str = NAME) -> list[list[float]]:
    """In each layout: load what saved case `number` wrote, and train on."""
    losses = []
    for number, case in cases:
        engine = built(case, directory / f"{number}" / "model")
        engine.load_checkpoint(directory / f"{number}" / place)
        losses.append(steps(engine, case, STEPS + 1))
    return losses


def adopt_and_go_on(cases: Sequence[tuple[Path, Case]]) -> list[list[float]]:
    """In each layout: take over what an engine saved below a directory, and train on."""
    losses = []
    for directory, case in cases:
        engine = built(case, directory / "model")
        engine.load_foreign_checkpoint(stored(case, directory))
        losses.append(steps(engine, case, STEPS + 1))
    return losses


def adopt_and_save(cases: Sequence[tuple[Path, Case, Path]]) -> None:
    """In each layout: take over what an engine saved below a directory, and save it below another."""
    for directory, case, target in cases:
        engine = built(case, target / "model")
        engine.load_foreign_checkpoint(stored(case, directory))
        _save(engine, case, target)


def stored(case: Case, directory: Path) -> CheckpointReader:
    """What an engine saved of the case's model."""
    file_format = json.loads((directory / NAME / "meta.json").read_text())["format"]
    config = parity.config_of(parity.Case(**case), 2 * STEPS)
    return open_source(config, directory / NAME, directory / "model", file_format)


def export(cases: Sequence[Case], kinds: Sequence[str], directory: Path) -> list[float]:
    """Train each case a little and export it; its evaluation loss."""
    losses = []
    for number, (case, kind) in enumerate(zip(cases, kinds, strict=True)):
        engine = built(case, directory / "model")
        steps(engine, case, 1)
        engine.export(directory / f"{number}-{kind}", kind)
        total, count, _ = engine.evaluate(parity.batch_for(parity.Case(**case), 99, engine.replica, case.get("dp", 1)))
        losses.append(total / count)
    return losses


def export_start(case: Case, directory: Path) -> None:
    """The case's untrained model, as somebody's pretrained weights."""
    built(case, directory / "model").export(directory / "weights", "full")
