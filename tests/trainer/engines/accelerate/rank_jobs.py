"""What ranks do in the tests of engine accelerate; loaded by path in each rank."""

from __future__ import annotations

from pathlib import Path

from llmtrain_trainer.convert.launch import load_script

engine_jobs = load_script(Path(__file__).parents[1] / "engine_jobs.py")
traces, save_and_go_on, load_and_go_on = engine_jobs.traces, engine_jobs.save_and_go_on, engine_jobs.load_and_go_on
export, export_start, built = engine_jobs.export, engine_jobs.export_start, engine_jobs.built


def wrapping(cases: list[dict[str, object]], directory: Path) -> list[str]:
    """Class of what wraps each case's model."""
    return [type(built(case, directory)._model).__name__ for case in cases]
