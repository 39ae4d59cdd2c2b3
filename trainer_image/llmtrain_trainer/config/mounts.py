"""Where a persistent volume claim is mounted inside a pod."""

from __future__ import annotations

from llmtrain_trainer.config import MOUNTED

ROOT = MOUNTED
"""Every claim that a manifest names is mounted at <ROOT>/<claim>."""


def resolve(uri: str) -> str:
    """pvc://claim/path becomes file:///mnt/pvc/claim/path; every other URI stays as it is."""
    scheme, separator, rest = uri.partition("://")
    return f"file://{ROOT}/{rest}" if separator and scheme == "pvc" else uri


def root_of(path: str) -> str | None:
    """Mount point of the claim that holds a local path; None if no claim does."""
    inside = path.removeprefix(f"{ROOT}/")
    return None if inside == path else f"{ROOT}/{inside.partition('/')[0]}"
