"""The command line, `llmtrain` and `kubectl llmtrain`: one module per group of verbs, registered in app.py."""

from __future__ import annotations


def main() -> None:
    """Entry point of both scripts. Never shows a traceback for an error that a user can fix."""
    from llmtrain_operator.cli.app import invoke  # late, so that importing this package for plan_table costs nothing

    raise SystemExit(invoke())
