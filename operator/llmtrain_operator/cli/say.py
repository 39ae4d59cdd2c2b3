"""How commands print what a cluster or a pod says: see terminal.py."""

from __future__ import annotations

import typer

from llmtrain_operator.terminal import plain


def say(text: str, *, err: bool = False) -> None:
    """One or more lines, without what a terminal would obey."""
    typer.echo(plain(text), err=err)
