"""How commands print text from a cluster or a pod: without terminal control sequences, see terminal.py."""

from __future__ import annotations

import typer

from llmtrain_operator.terminal import plain


def say(text: str, *, err: bool = False) -> None:
    """Print one or more lines without control sequences."""
    typer.echo(plain(text), err=err)
