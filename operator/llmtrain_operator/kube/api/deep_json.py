"""Reads JSON that may be nested deeper than Python's parser allows.

An API server takes objects nested 10,000 deep; what is cut here is still nested far deeper than a manifest may be, and refused as such.
"""

from __future__ import annotations

import json
import re
from typing import Any

CUT = 128
"""Levels that are kept if not all can be read."""

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


def read_json(raw: bytes) -> Any:
    """The value; if it is nested too deeply, values below CUT levels are replaced by null. Raises ValueError."""
    try:
        return json.loads(raw)
    except RecursionError:
        pass
    try:
        return json.loads(_cut(raw))
    except RecursionError as error:
        raise ValueError("its brackets do not match, or lie in a string without an end") from error


def _cut(raw: bytes) -> bytes:
    kept, depth, start = [], 0, 0
    for token in _TOKEN.finditer(raw):
        sign = token[0]
        if sign in (b"{", b"["):
            depth += 1
            if depth == CUT + 1:
                kept.append(raw[start : token.start()] + b"null")
        elif sign in (b"}", b"]"):
            if depth == CUT + 1:
                start = token.end()
            depth -= 1
    return b"".join((*kept, raw[start:]))
