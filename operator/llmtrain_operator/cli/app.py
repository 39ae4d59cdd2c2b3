"""Every command of `llmtrain` in one place, and what its errors look like."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

import typer

from llmtrain_operator.cli import converting, fields, importing, planning, running, starter
from llmtrain_operator.cli.on_cluster import checkpoints, listing, logs, steering, submitting, watching, why
from llmtrain_operator.cli.refusal import FAULT, refusal
from llmtrain_operator.terminal import plain

TRACEBACK = "LLMTRAIN_TRACEBACK"

app = typer.Typer(
    name="llmtrain",
    help="Train large language models from one manifest: on this machine, or on Kubernetes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("init")(starter.init)
app.command("validate")(planning.validate)
app.command("plan")(planning.show_plan)
app.command("run")(running.run)
app.command("report")(running.report)
app.command("import")(importing.import_recipe)
app.command("convert")(converting.convert)
app.command("submit")(submitting.submit)
app.command("get")(listing.get)
app.command("watch")(watching.watch)
app.command("logs")(logs.logs)
app.command("why")(why.why)
app.command("suspend")(steering.suspend)
app.command("resume")(steering.resume)
app.command("delete")(steering.delete)
app.command("render")(submitting.render)
app.command("explain")(fields.explain)
app.command("version")(fields.version)
app.add_typer(checkpoints.app, name="checkpoints")


def invoke(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code. 2: the command or the manifest is invalid, 3: it does not fit."""
    try:
        app(args=None if arguments is None else list(arguments), prog_name="llmtrain")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception as error:
        known = refusal(error)
        if known is None:
            return _ours(error)
        for line in known.lines:
            print(plain(line), file=sys.stderr)
        return known.exit_code
    return 0


def _ours(error: Exception) -> int:
    """Print a fault of llmtrain itself in one line; the traceback only if it is asked for."""
    if os.environ.get(TRACEBACK):
        traceback.print_exc()
    said = plain(" ".join(f"{type(error).__name__}: {error}".split()))[:300]
    print(f"llmtrain failed because of a bug ({said}). Run it again with {TRACEBACK}=1 and report the traceback.", file=sys.stderr)
    return FAULT
