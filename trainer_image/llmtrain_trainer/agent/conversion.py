"""Conversions of a fetched checkpoint for another layout, in a child of the warm server. Called by agreement.py on every node."""

from __future__ import annotations

from pathlib import Path

from llmtrain_trainer.agent.ranks import fork

ENTRIES = {"universal": "llmtrain_trainer.engines.deepspeed.universal:main"}
"""Kind, as checkpoint/fit.py names it -> module:function, called with the checkpoint's directory, makes <kind> in it by one rename."""


class ConversionError(Exception):
    """The child failed; its log says why."""


def convert(kind: str, directory: Path, logs: Path) -> Path:
    """The converted checkpoint, a directory below `directory` that goes with it. One that is there already is taken.

    Raises ConversionError.
    """
    converted, log = directory / kind, logs / "convert.log"
    if not converted.exists():
        child = fork(ENTRIES[kind], directory, {}, log)
        child.join()
        if child.exitcode != 0:
            raise ConversionError(f"{directory.name} could not be converted ({kind}): the child ended with {child.exitcode}; see {log}")
    return converted
