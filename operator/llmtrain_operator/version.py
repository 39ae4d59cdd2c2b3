"""Which llmtrain this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed


def version() -> str | None:
    """That of the installed distribution; None in an image, which has the code alone."""
    try:
        return installed("llmtrain")
    except PackageNotFoundError:
        return None
