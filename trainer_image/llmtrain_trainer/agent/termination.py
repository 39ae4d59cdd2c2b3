"""Writes the agent's verdict where Kubernetes and the parent process read it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from llmtrain_trainer.config import Verdict
from llmtrain_trainer.run_dir.layout import RunDir, write_atomically

TERMINATION_BYTES = 4096
"""Kubernetes truncates a termination message here."""

_TERMINATION_LOG = Path("/dev/termination-log")


def write_verdict(run: RunDir, verdict: Verdict) -> int:
    """Write the verdict to termination.json and, in a pod, to the termination message. Returns the exit code."""
    text = verdict.model_dump_json(by_alias=True)
    with suppress(OSError):  # a full disk must not hide the exit code
        write_atomically(run.termination, text)
    if os.getpid() == 1 and _TERMINATION_LOG.exists():
        with suppress(OSError):
            _TERMINATION_LOG.write_text(fitted(verdict))
    return verdict.exit_code


def fitted(verdict: Verdict) -> str:
    """The verdict as JSON within Kubernetes' limit: the first of `_shorter` that fits."""
    texts = (shorter.model_dump_json(by_alias=True, exclude_none=True) for shorter in _shorter(verdict))
    return next(text for text in texts if len(text.encode()) <= TERMINATION_BYTES)


def _shorter(verdict: Verdict) -> Iterator[Verdict]:
    """The verdict with fewer and fewer notices, then with a shorter message, then without the newest row and the checkpoint."""
    for count in range(len(verdict.notices), -1, -1):
        yield verdict.model_copy(update={"notices": verdict.notices[:count]})
    cut = verdict.model_copy(update={"message": verdict.message[:500], "notices": ()})
    yield cut
    yield cut.model_copy(update={"progress": None})
    yield cut.model_copy(update={"progress": None, "checkpoint": None})
