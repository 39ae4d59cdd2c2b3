"""`llmtrain checkpoints list|verify`: the checkpoints in a job's store, and whether they are intact.

The job is given by its manifest, by its store, or by its name on a cluster. The store is read from this machine, with the credentials of
the environment; if that fails, the last checkpoint recorded in the job's status is shown.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from llmtrain_operator.cli.manifest import load_manifest, typed_uri
from llmtrain_operator.cli.on_cluster.access import ContextOption, KubeconfigOption, NamespaceOption, access, checked_name
from llmtrain_operator.cli.refusal import ClusterError, UsageError
from llmtrain_operator.cli.say import say

if TYPE_CHECKING:
    from rich.text import Text


class _OrList(TyperGroup):
    """`checkpoints JOB` is `checkpoints list JOB`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # typer bundles its own click, whose types have no public name
        return super().resolve_command(ctx, args if args[0] in self.commands else ["list", *args])


app = typer.Typer(help="List and verify the checkpoints of a job.", no_args_is_help=True, rich_markup_mode=None, cls=_OrList)

JobArgument = Annotated[str | None, typer.Argument(help="Name of the job on a cluster.", metavar="[JOB]")]
FileOption = Annotated[str | None, typer.Option("--file", "-f", help="The job's manifest; - reads standard input.", metavar="FILE")]
DestinationOption = Annotated[
    str | None, typer.Option(help="The store, instead of a manifest: file:///path or s3://bucket/prefix.", metavar="URI")
]
OutputOption = Annotated[Literal["table", "json"], typer.Option("--output", "-o", help="How to print it.")]


@app.command("list")
def list_checkpoints(
    job: JobArgument = None,
    file: FileOption = None,
    destination: DestinationOption = None,
    output: OutputOption = "table",
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """List a job's checkpoints.

    Newest first; uncommitted ones are marked.
    """
    uri, known = _place(job, file, destination, (namespace, context, kubeconfig))
    _show(_read("list", uri, known), output)


@app.command("verify")
def verify_checkpoints(
    job: JobArgument = None,
    file: FileOption = None,
    destination: DestinationOption = None,
    output: OutputOption = "table",
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Verify a job's checkpoints.

    Reads every committed one and compares its digests; the exit code is 1 if one is damaged.
    """
    uri, _ = _place(job, file, destination, (namespace, context, kubeconfig))
    rows = _read("verify", uri, None)
    _show(rows, output)
    if any(row.get("verified") is False for row in rows):
        raise typer.Exit(1)


def _read(verb: str, uri: str, known: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The rows of a store; if it cannot be read from here, the `known` one with a note. Raises TrainerError, ClusterError."""
    from llmtrain_operator.local.trainer import TrainerError, checkpoints

    try:
        if known is not None and not uri.startswith("s3://"):
            raise ClusterError(f"{uri} can be reached from inside the cluster only.")
        return checkpoints(verb, uri)
    except (TrainerError, ClusterError) as error:
        if not known:
            raise
        say(f"{error} Showing the last checkpoint recorded in the job's status.", err=True)
        return [known]


def _show(rows: list[dict[str, Any]], output: str) -> None:
    if output == "json":
        say(json.dumps(rows, indent=2))
    elif rows:
        _print_table(rows)
    else:
        say("There are no checkpoints.")


def _place(
    job: str | None, file: str | None, destination: str | None, cluster: tuple[str | None, str | None, str | None]
) -> tuple[str, dict[str, Any] | None]:
    """The store, and for a job on a cluster the newest checkpoint in its status, {} if it has none."""
    if [job, file, destination].count(None) != 2:
        raise UsageError("Give exactly one of these: the name of the job, its manifest with -f, or the store with --destination.")
    if job is not None:
        return asyncio.run(_of_job(job, *cluster))
    if destination is not None:
        return typed_uri(destination), None
    manifest = load_manifest(file or "")
    if manifest.spec.checkpoint is None:
        raise UsageError(f"{manifest.metadata.name} keeps no checkpoints: spec.checkpoint is not set.")
    return manifest.spec.checkpoint.destination, None


async def _of_job(name: str, namespace: str | None, context: str | None, kubeconfig: str | None) -> tuple[str, dict[str, Any]]:
    checked_name("JOB", name)
    async with access(namespace, context, kubeconfig) as cluster:
        found = await cluster.job(name)
    checkpoint = found["spec"].get("checkpoint")
    if not checkpoint:
        raise UsageError(f"{name} keeps no checkpoints: spec.checkpoint is not set.")
    return checkpoint["destination"], _known((found.get("status") or {}).get("checkpoint"))


def _known(summary: dict[str, Any] | None) -> dict[str, Any]:
    """The checkpoint of a status as a row."""
    from llmtrain_operator.life.times import seconds_of

    if not summary:
        return {}
    attempt = summary["name"].partition("-a")[2].partition("-")[0]
    kept = {"step": summary["step"], "attempt": int(attempt) if attempt.isdigit() else 0, "bytes": summary.get("bytes"), "files": None}
    return {
        **kept,
        "name": summary["name"],
        "created": seconds_of(summary.get("time")),
        "committed": True,
        "verified": True,
        "problem": None,
    }


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from llmtrain_trainer.config.formats import size, span

    table = Table(box=box.SIMPLE_HEAD)
    for column in ("step", "attempt", "size", "files", "age"):
        table.add_column(column, justify="right")
    table.add_column("state")
    table.add_column("name", no_wrap=True)
    for row in rows:
        age = span(time.time() - row["created"]) if row.get("created") else "-"
        table.add_row(str(row["step"]), str(row["attempt"]), size(row["bytes"]), str(row["files"] or "-"), age, _state(row), row["name"])
    Console().print(table)


def _state(row: dict[str, Any]) -> Text:
    from rich.text import Text

    if row.get("problem"):
        return Text(str(row["problem"]), style="red")
    if row.get("verified"):
        return Text("verified", style="green")
    return Text("committed") if row["committed"] else Text("not committed", style="yellow")
