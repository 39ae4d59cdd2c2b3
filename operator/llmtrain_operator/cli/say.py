"""How commands print what a cluster or a pod says: see job/plain.py."""

from __future__ import annotations

import typer

from llmtrain_operator.job.plain import plain


def say(text: str, *, err: bool = False) -> None:
    """One or more lines, without what a terminal would obey."""
    typer.echo(plain(text), err=err)
