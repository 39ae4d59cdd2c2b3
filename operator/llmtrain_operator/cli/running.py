"""`llmtrain run` and `llmtrain report`: train on this machine, and write the report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmtrain_operator.cli.manifest import ManifestOption, SetOption, load_manifest
from llmtrain_operator.cli.refusal import TOO_LARGE, UsageError

if TYPE_CHECKING:
    from llmtrain_operator.local.run import Outcome, Ready
    from llmtrain_operator.local.view import View


def run(
    file: ManifestOption,
    nodes: Annotated[int | None, typer.Option(help="Distribute the ranks over this many nodes on the loopback interface.", min=1)] = None,
    workdir: Annotated[Path | None, typer.Option(help="Directory for the files of the run. Default: out/runs/<name>.")] = None,
    settings: SetOption = None,
    plain: Annotated[bool, typer.Option("--plain", help="Print lines instead of the live view.")] = False,
) -> None:
    """Train on this machine.

    The plan, the processes and the checkpoints are the same as on a cluster. Ctrl-C saves and stops; the same command then resumes.
    """
    from llmtrain_operator.local.run import DoesNotFitError, get_ready
    from llmtrain_operator.local.run import run as train
    from llmtrain_operator.local.workdir import Workdir

    job = load_manifest(file, settings)
    place = Workdir((workdir or Path("out", "runs", job.metadata.name)).resolve())
    try:
        ready = get_ready(job, place, nodes)
    except DoesNotFitError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(TOO_LARGE) from None
    view = choose_view(ready, plain=plain)
    for note in ready.notes:
        view.say(note)

    def close(outcome: Outcome) -> None:
        for line in closing_lines(ready, outcome):
            view.say(line)

    outcome = train(ready, view, close=close)
    raise typer.Exit(outcome.exit_code)


def report(workdir: Annotated[Path, typer.Option(help="The workdir of a run, such as out/runs/<name>.")]) -> None:
    """Write the report of a run.

    Writes report.html and loss.png; the run need not be finished.
    """
    from llmtrain_operator.local.trainer import write_report
    from llmtrain_operator.local.workdir import Workdir

    place = Workdir(workdir.resolve())
    if not place.nodes():
        raise UsageError(f"{workdir} has no run: it has no node-0. `llmtrain run` creates one, by default in out/runs/<name>.")
    typer.echo(str(write_report(place.node(0), place.nodes(), place.report)))


def choose_view(ready: Ready, *, plain: bool) -> View:
    """The view of a local run."""
    return view_titled(title(ready), plain=plain)


def view_titled(title: str, *, plain: bool) -> View:
    """The live view on a terminal, plain lines elsewhere."""
    from rich.console import Console

    from llmtrain_operator.local.view import LiveView, PlainView

    console = Console()
    return PlainView(console) if plain or not console.is_terminal else LiveView(console, title)


def title(ready: Ready) -> str:
    """The title of a run: `llama-demo: pretrain with native, pp 2 × dp 2 × tp 2, 8 CPU processes on 1 node`."""
    from llmtrain_operator.plan.layout.layout import degrees

    config = ready.config
    mesh = config.mesh
    devices = "CPU processes" if config.device == "cpu" else "GPUs"
    layout = " × ".join(f"{axis} {size}" for axis, size in degrees(mesh) if axis != "ep") or "one device"
    experts = f", ep {mesh.ep}" if mesh.ep > 1 else ""
    where = f"{mesh.world_size} {devices} on {mesh.nodes} {'node' if mesh.nodes == 1 else 'nodes'}"
    attempt = "" if config.job.attempt == 1 else f", attempt {config.job.attempt}"
    return f"{config.job.name}: {config.task} with {config.engine}, {layout}{experts}, {where}{attempt}"


def closing_lines(ready: Ready, outcome: Outcome) -> list[str]:
    """The closing lines of a run: verdict, notices, loss, export, report; and where to look if it failed."""
    from llmtrain_trainer.config import ExitCode
    from llmtrain_trainer.config.formats import loss

    lines = []
    if outcome.verdict is not None:
        lines.append(outcome.verdict.message)
    lines += [f"notice    {sentence}" for sentence in outcome.notices]
    rows = outcome.last.rows
    if rows:
        lines.append(f"loss      {loss(rows[0].loss)} at step {rows[0].step} -> {loss(rows[-1].loss)} at step {rows[-1].step}")
    if evaluated := [(row.step, row.validation_loss) for row in rows if row.validation_loss is not None]:
        (step, newest), (best_step, best) = evaluated[-1], min(evaluated, key=lambda pair: pair[1])
        lowest = f", lowest {loss(best)} at step {best_step}" if best < newest else ""
        measures = "".join(f", {name} {loss(value)}" for name, value in outcome.last.validation_metrics.items())
        lines.append(f"validation {loss(newest)}{measures} at step {step}{lowest}")
    export = ready.workdir.node(0) / "export"
    if outcome.exit_code == 0 and export.exists():
        lines.append(f"export    {export}")
    if outcome.report is not None:
        lines.append(f"report    {outcome.report}")
    if outcome.exit_code == ExitCode.SAVED:
        lines += _going_on(ready, outcome)
    elif outcome.exit_code and outcome.verdict is None:
        lines.append(f"The agent ended with exit code {outcome.exit_code} and no verdict. The end of its log:")
        lines += _tail(ready.workdir.agent_log(0))
    if outcome.exit_code not in (ExitCode.DONE, ExitCode.SAVED):
        lines.append(f"logs      {ready.workdir.node(0) / 'logs'}")
    return lines


def _going_on(ready: Ready, outcome: Outcome) -> list[str]:
    """How to resume from the saved checkpoint; empty if none was saved."""
    checkpoint = ready.config.checkpoint
    if checkpoint is None or outcome.verdict is None or outcome.verdict.checkpoint is None:
        return []
    if checkpoint.resume == "latest":
        return ["The same command resumes from there."]
    return ["With --set spec.checkpoint.resume=latest the same command resumes from there; without it, it starts from step 0."]


def _tail(log: Path, count: int = 12) -> list[str]:
    return log.read_text(errors="replace").splitlines()[-count:] if log.exists() else []
