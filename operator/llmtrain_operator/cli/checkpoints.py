"""`llmtrain checkpoints list|verify`: what there is in a job's store, and whether it is whole."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any, Literal

import typer
from rich.text import Text

from llmtrain_operator.cli.manifest import load_manifest
from llmtrain_operator.cli.refusal import UsageError

app = typer.Typer(help="List and verify the checkpoints of a job.", no_args_is_help=True, rich_markup_mode=None)

FileOption = Annotated[str | None, typer.Option("--file", "-f", help="The job's manifest; - reads standard input.", metavar="FILE")]
DestinationOption = Annotated[
    str | None, typer.Option(help="The store, instead of a manifest: file:///path or s3://bucket/prefix.", metavar="URI")
]
OutputOption = Annotated[Literal["table", "json"], typer.Option("--output", "-o", help="How to print it.")]


@app.command("list")
def list_checkpoints(file: FileOption = None, destination: DestinationOption = None, output: OutputOption = "table") -> None:
    """List a job's checkpoints.

    Newest first; those that were never committed are shown as such.
    """
    _show("list", file, destination, output)


@app.command("verify")
def verify_checkpoints(file: FileOption = None, destination: DestinationOption = None, output: OutputOption = "table") -> None:
    """Verify a job's checkpoints.

    Reads every committed one and compares its digests; the exit code is 1 if one is not whole.
    """
    rows = _show("verify", file, destination, output)
    if any(row.get("verified") is False for row in rows):
        raise typer.Exit(1)


def _show(verb: str, file: str | None, destination: str | None, output: str) -> list[dict[str, Any]]:
    from llmtrain_operator.local.trainer import checkpoints

    rows = checkpoints(verb, _destination(file, destination))
    if output == "json":
        typer.echo(json.dumps(rows, indent=2))
    elif rows:
        _print_table(rows)
    else:
        typer.echo("There are no checkpoints.")
    return rows


def _destination(file: str | None, destination: str | None) -> str:
    if (file is None) == (destination is None):
        raise UsageError("Give the manifest with -f, or the store with --destination: one of the two.")
    if destination is not None:
        from pathlib import Path

        from llmtrain_operator.cli.manifest import with_absolute_paths

        return str(with_absolute_paths(destination, Path.cwd()))
    job = load_manifest(file or "")
    if job.spec.checkpoint is None:
        raise UsageError(f"{job.metadata.name} keeps no checkpoints: spec.checkpoint is missing.")
    return job.spec.checkpoint.destination


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from llmtrain_operator.local.words import size, span

    table = Table(box=box.SIMPLE_HEAD)
    for column in ("step", "attempt", "size", "files", "age"):
        table.add_column(column, justify="right")
    table.add_column("state")
    table.add_column("name", no_wrap=True)
    for row in rows:
        age = span(time.time() - row["created"]) if row.get("created") else "-"
        table.add_row(str(row["step"]), str(row["attempt"]), size(row["bytes"]), str(row["files"]), age, _state(row), row["name"])
    Console().print(table)


def _state(row: dict[str, Any]) -> Text:
    if row.get("problem"):
        return Text(str(row["problem"]), style="red")
    if row.get("verified"):
        return Text("verified", style="green")
    return Text("committed") if row["committed"] else Text("not committed", style="yellow")
