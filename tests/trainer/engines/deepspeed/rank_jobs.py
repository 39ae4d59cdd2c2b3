"""What ranks do in the tests of engine deepspeed; loaded by path in each rank.

A process holds engines of one mesh only: DeepSpeed keeps its groups in globals.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmtrain_trainer.convert.launch import load_script

engine_jobs = load_script(Path(__file__).parents[1] / "engine_jobs.py")
Case = dict[str, Any]
traces, save_and_go_on = engine_jobs.traces, engine_jobs.save_and_go_on
adopt_and_go_on, adopt_and_save = engine_jobs.adopt_and_go_on, engine_jobs.adopt_and_save
export, export_start = engine_jobs.export, engine_jobs.export_start
save_and_export = engine_jobs.save_and_export


def refusals(cases: Sequence[Case], directory: Path) -> list[str]:
    """What building each case raises, where DeepSpeed could not compile what reads disks."""
    import deepspeed

    deepspeed.ops.__compatible_ops__["async_io"] = False
    said = []
    for case in cases:
        try:
            engine_jobs.built(case, directory)
            said.append("")
        except ValueError as error:
            said.append(str(error))
    return said


def load_and_go_on(cases: Sequence[Case], directory: Path, place: str = engine_jobs.NAME) -> list[list[float]]:
    """In a fresh process: load what each case saved, and train on."""
    losses: list[list[float]] = engine_jobs.load_and_go_on(enumerate(cases), directory, place)
    return losses
