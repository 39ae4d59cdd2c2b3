"""`llmtrain plan` and `llmtrain validate`: what a job would do, without running it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from llmtrain_operator.cli.manifest import ManifestOption, SetOption, load_manifest
from llmtrain_operator.cli.refusal import TOO_LARGE

if TYPE_CHECKING:
    from llmtrain_operator.api.job import LLMTrainJob


def validate(file: ManifestOption, settings: SetOption = None) -> None:
    """Check a manifest.

    Prints every problem, one per line; the exit code is then 2.
    """
    from llmtrain_operator.plan.plan import plan
    from llmtrain_operator.sources import read_shape

    job = load_manifest(file, settings)
    plan(job, read_shape(job.spec.model))
    typer.echo(f"{job.metadata.name} is valid.")
    _tell_what_is_not_here(job)


def show_plan(
    file: ManifestOption,
    output: Annotated[Literal["table", "json"], typer.Option("--output", "-o", help="How to print it.")] = "table",
    settings: SetOption = None,
) -> None:
    """Show what a job would do.

    Prints layout, batch, memory and speed. Exit codes: 0 it fits, 2 it is invalid, 3 it does not fit.
    """
    from llmtrain_operator.plan.plan import plan
    from llmtrain_operator.plan.plan_dict import plan_dict
    from llmtrain_operator.sources import read_shape

    job = load_manifest(file, settings)
    result = plan(job, read_shape(job.spec.model))
    if output == "json":
        typer.echo(json.dumps(plan_dict(result), indent=2))
    else:
        from rich.console import Console

        from llmtrain_operator.cli.plan_table import render_plan

        Console().print(render_plan(result))
    _tell_what_is_not_here(job)
    if not result.fits:
        raise typer.Exit(TOO_LARGE)


def _tell_what_is_not_here(job: LLMTrainJob) -> None:
    """Print the paths that this machine lacks. The manifest may be for other machines; `llmtrain run` refuses it on this one."""
    from llmtrain_operator.local.there import not_here

    if problems := not_here(job):
        for problem in problems:
            typer.echo(f"Not here: {problem}", err=True)
        typer.echo("`llmtrain run` refuses this on this machine. The files of pods cannot be checked from here.", err=True)
