"""Whether what a manifest names on this machine is there. `validate` and `plan` tell it, since a manifest may be for other machines; `run`
refuses it before it starts anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from glob import glob, has_magic
from pathlib import Path

from llmtrain_operator.api.job import LLMTrainJob, Spec
from llmtrain_operator.manifest.problem import Problem
from llmtrain_operator.manifest.uris import Place, uris

TOKENIZER = ("tokenizer.json", "*.model", "vocab.*")
"""Files of which a tokenizer has one at least."""

WAY_OUT = "Put it there, or correct the path"


def not_here(job: LLMTrainJob) -> list[Problem]:
    """A problem for each file:// place that cannot be read, or cannot be written to, on this machine."""
    found = [problem for place in uris(job.spec) if place.uri.startswith("file://") and (problem := _problem(place)) is not None]
    return [*found, *([] if found else _without_tokenizer(job.spec))]


def _problem(place: Place) -> Problem | None:
    path = Path(place.uri.removeprefix("file://"))
    try:
        wrong = _unwritable(path) if place.written else _unreadable(path)
        if wrong is None and place.field == "spec.tokenizer.source" and not _has_tokenizer(path):
            wrong = "there is no tokenizer in it, such as tokenizer.json"
    except OSError as error:
        wrong = f"it cannot be looked at ({error.strerror})"
    return None if wrong is None else Problem(place.field, place.uri, wrong, WAY_OUT)


def _unreadable(path: Path) -> str | None:
    """A file, a directory with one in it, or a glob that finds one."""
    matches = [path] if path.exists() else [Path(match) for match in glob(str(path), recursive=True)]  # noqa: PTH207 (an absolute pattern)
    if not matches:
        return "no file on this machine matches it" if has_magic(str(path)) else "there is no such file on this machine"
    if not any(os.access(match, os.R_OK) for match in matches):
        return "it may not be read"
    if not any(_holds(match) for match in matches):
        return "it is empty"
    return None


def _holds(path: Path) -> bool:
    if not path.is_dir():
        return not path.is_file() or path.stat().st_size > 0
    return any(name for _, _, names in os.walk(path, followlinks=True) for name in names)


def _unwritable(path: Path) -> str | None:
    """A destination is made where it is not there: what counts is the nearest directory above it that is."""
    there = next(parent for parent in (path, *path.parents) if parent.exists())
    if not there.is_dir():
        return f"{there} is a file, and a destination is a directory"
    return None if os.access(there, os.W_OK | os.X_OK) else f"{there} may not be written to"


def _has_tokenizer(path: Path) -> bool:
    return not path.is_dir() or any(next(path.glob(pattern), None) for pattern in TOKENIZER)


def _without_tokenizer(spec: Spec) -> Iterator[Problem]:
    """Where no tokenizer is named, it is the one beside the weights."""
    source = spec.model.source or ""
    named = spec.tokenizer and (spec.tokenizer.source or spec.tokenizer.train)
    if not named and source.startswith("file://") and not _has_tokenizer(Path(source.removeprefix("file://"))):
        rule = "there is no tokenizer beside the weights, such as tokenizer.json"
        yield Problem("spec.model.source", source, rule, "Put it there, or name one in tokenizer.source")
