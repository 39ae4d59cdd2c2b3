"""What a process writes before it dies of an error: errors/rank-<r>.json or errors/prepare.json. Read by agent/diagnosis.py."""

from __future__ import annotations

import json
import time
import traceback
from pathlib import Path
from typing import Literal

from llmtrain_trainer.run_dir import write_atomically

Kind = Literal["crash", "oom", "config", "data", "peer"]
"""peer: it lost the connection to another rank, so the cause is elsewhere."""

_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "outofmemory")
_PEER = (
    "connection closed by peer",
    "connection reset by peer",
    "broken pipe",
    "connection refused",
    "socket timeout",
    "timed out waiting",
    "remote error",
    "ncclremoteerror",
    "ncclsystemerror",
    "failed to recv",
    "connection was likely closed",
    "wait timeout after",
)


def write_last_words(path: Path, error: BaseException, *, step: int, starting: bool) -> None:
    """Write type, message, traceback, step and kind of the error. `starting`: before step 1, where a ValueError means the config."""
    root = _root(error)
    words = {
        "time": time.time(),
        "kind": classify(root, starting=starting),
        "type": type(root).__name__,
        "message": str(root).strip() or type(root).__name__,
        "traceback": "".join(traceback.format_exception(error)),
        "step": step,
    }
    write_atomically(path, json.dumps(words))


def _root(error: BaseException) -> BaseException:
    """What an error was raised from: the pipeline wraps whatever happens in a stage, running out of memory too."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def classify(error: BaseException, *, starting: bool) -> Kind:
    """Which class of failure an exception belongs to."""
    text = f"{type(error).__name__}: {error}".lower()
    if isinstance(error, MemoryError) or any(sign in text for sign in _MEMORY):
        return "oom"
    if any(kind.__name__.startswith("BadData") for kind in type(error).__mro__):  # by name: no imports while dying
        return "data"
    if isinstance(error, ValueError) and starting:
        return "config"
    if any(sign in text for sign in _PEER):
        return "peer"
    return "crash"
