"""Where a persistent volume claim is mounted inside a pod."""

from __future__ import annotations

from llmtrain_trainer.config import MOUNTED


def resolve(uri: str) -> str:
    """pvc://claim/path becomes file:///mnt/pvc/claim/path; every other URI stays as it is."""
    scheme, separator, rest = uri.partition("://")
    return f"file://{MOUNTED}/{rest}" if separator and scheme == "pvc" else uri


def root_of(path: str) -> str | None:
    """Mount point of the claim that holds a local path; None if no claim does."""
    inside = path.removeprefix(f"{MOUNTED}/")
    return None if inside == path else f"{MOUNTED}/{inside.partition('/')[0]}"
