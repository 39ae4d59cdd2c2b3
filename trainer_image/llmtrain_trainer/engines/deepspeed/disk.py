"""An optimizer on a local disk (offload to nvme): its files in a checkpoint, which holds bare files only. Used by engine.py."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

TREE = "offloaded_tensors"
"""Where DeepSpeed looks: a directory a rank, with the files as they lie on the disk."""

BORDER = "--"
"""Stands for a slash in the name of a bare file."""


def flatten(directory: Path) -> None:
    """After a save: <TREE>/rank00/a/b becomes <TREE>--rank00--a--b."""
    for path in [path for path in (directory / TREE).rglob("*") if path.is_file()]:
        path.rename(directory / str(path.relative_to(directory)).replace(os.sep, BORDER))
    shutil.rmtree(directory / TREE, ignore_errors=True)


def unfold(directory: Path, rank: int) -> None:
    """Before a load: the files of one rank as a tree again, links to those that are there."""
    mine = f"{TREE}{BORDER}rank{rank:02d}{BORDER}"
    for path in directory.glob(f"{mine}*"):
        target = directory / path.name.replace(BORDER, os.sep)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.symlink_to(path.resolve())
