"""Limits on the size of a manifest: depth, number of values, digits, characters."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from llmtrain_operator.manifest.document import DEEPEST, MOST_VALUES, Path, dotted, is_text, too_deep, too_large
from llmtrain_operator.manifest.problem import Problem

LARGEST_NUMBER = 2**63 - 1
"""Largest whole number that Kubernetes stores."""

LONGEST_TEXT = 1 << 18
"""Most characters of one text."""


def excesses(value: Any) -> Iterator[tuple[Path, Problem]]:
    """Problems with values that exceed a limit or cannot be written in JSON, each with its path. Iterative, and stops at the limits."""
    waiting: list[tuple[Path, Any]] = [((), value)]
    seen = 0
    while waiting:
        path, found = waiting.pop()
        seen += 1
        if seen > MOST_VALUES:
            yield (), too_large()
            return
        if len(path) > DEEPEST:
            yield path[:4], too_deep(dotted(path[:4]))
            return
        if isinstance(found, dict):
            waiting += [((*path, str(name)), inner) for name, inner in found.items()]
            yield from ((path, _text(path, name)) for name in found if isinstance(name, str) and not _is_sound(name))
        elif isinstance(found, list):
            waiting += [((*path, index), inner) for index, inner in enumerate(found)]
        elif (problem := _of_scalar(path, found)) is not None:
            yield path, problem


def _of_scalar(path: Path, value: Any) -> Problem | None:
    if isinstance(value, str):
        return None if _is_sound(value) else _text(path, value)
    if isinstance(value, float) and not math.isfinite(value):
        return Problem(dotted(path), str(value), "it must be a finite number", "Write a finite number")
    if isinstance(value, int) and abs(value) > LARGEST_NUMBER:
        shown = str(value) if value.bit_length() < 256 else f"a number of {value.bit_length()} bits"
        return Problem(dotted(path), shown, f"a whole number is at most {LARGEST_NUMBER}", "Write a smaller number")
    return None


def _is_sound(text: str) -> bool:
    return len(text) <= LONGEST_TEXT and (text.isascii() or is_text(text))


def _text(path: Path, text: str) -> Problem:
    if len(text) > LONGEST_TEXT:
        return Problem(dotted(path), f"{len(text)} characters", f"a text has at most {LONGEST_TEXT}", "Shorten it")
    return Problem(dotted(path), "not text", "it has half of a character (a lone surrogate)", "Write it as UTF-8")
