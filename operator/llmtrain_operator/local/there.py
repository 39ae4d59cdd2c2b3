"""Checks that the file:// paths of a manifest exist on this machine. `validate` and `plan` print what is missing, since the manifest may be
for other machines; `run` refuses it before it starts anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from glob import glob, has_magic
from pathlib import Path

from llmtrain_operator.api.job import LLMTrainJob, Spec
from llmtrain_operator.manifest.problem import Problem
from llmtrain_operator.manifest.uris import UriField, uris

TOKENIZER = ("tokenizer.json", "*.model", "vocab.*")
"""Files of which a tokenizer has at least one."""

WAY_OUT = "Put it there, or correct the path"
EMPTY, WITH_DATA = "there is no row in it: the file is empty", "Name files that hold data"
"""As preparation refuses it."""


def not_here(job: LLMTrainJob) -> list[Problem]:
    """A problem for each file:// location that cannot be read, or cannot be written to, on this machine."""
    found = [problem for place in uris(job.spec) if place.uri.startswith("file://") and (problem := _problem(place)) is not None]
    return [*found, *([] if found else _without_tokenizer(job.spec))]


def _problem(place: UriField) -> Problem | None:
    path = Path(place.uri.removeprefix("file://"))
    try:
        wrong = _unwritable(path) if place.written else _unreadable(path)
        if wrong is None and place.field == "spec.tokenizer.source" and not _has_tokenizer(path):
            wrong = "it has no tokenizer, such as tokenizer.json"
    except OSError as error:
        wrong = f"it cannot be checked ({error.strerror})"
    return None if wrong is None else Problem(place.field, place.uri, wrong, WITH_DATA if wrong == EMPTY else WAY_OUT)


def _unreadable(path: Path) -> str | None:
    """What is wrong with a source; None if it is a readable file, a directory with files, or a glob that matches some."""
    if path.is_symlink() and not path.exists():
        return "it is a link to a file that does not exist"
    matches = [path] if path.exists() else [Path(match) for match in glob(str(path), recursive=True)]  # noqa: PTH207 (an absolute pattern)
    if not matches:
        return "no file on this machine matches it" if has_magic(str(path)) else "there is no such file on this machine"
    if not any(os.access(match, os.R_OK) for match in matches):
        return "you have no permission to read it"
    if not any(_holds(match) for match in matches):
        return EMPTY if path.is_file() else "it is empty"
    return None


def _holds(path: Path) -> bool:
    if not path.is_dir():
        return not path.is_file() or path.stat().st_size > 0
    return any(name for _, _, names in os.walk(path, followlinks=True) for name in names)


def _unwritable(path: Path) -> str | None:
    """What is wrong with a destination. A missing one is created, so its nearest existing parent is checked."""
    there = next(parent for parent in (path, *path.parents) if parent.exists())
    if not there.is_dir():
        return f"{there} is a file, and a destination must be a directory"
    return None if os.access(there, os.W_OK | os.X_OK) else f"you have no permission to write to {there}"


def _has_tokenizer(path: Path) -> bool:
    return not path.is_dir() or any(next(path.glob(pattern), None) for pattern in TOKENIZER)


def _without_tokenizer(spec: Spec) -> Iterator[Problem]:
    """A problem if no tokenizer is named and none is stored with the weights."""
    source = spec.model.source or ""
    named = spec.tokenizer and (spec.tokenizer.source or spec.tokenizer.train)
    if not named and source.startswith("file://") and not _has_tokenizer(Path(source.removeprefix("file://"))):
        rule = "it has no tokenizer, such as tokenizer.json, and tokenizer.source is not set"
        yield Problem("spec.model.source", source, rule, "Put it there, or name one in tokenizer.source")
