"""The command line, `llmtrain` and `kubectl llmtrain`: one module a group of verbs, put together in app.py."""

from __future__ import annotations


def main() -> None:
    """Entry of both scripts. Never shows a traceback for what a user can put right."""
    from llmtrain_operator.cli.app import invoke  # late, so that importing this package for plan_table costs nothing

    raise SystemExit(invoke())
