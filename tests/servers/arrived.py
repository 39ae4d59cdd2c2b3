"""A request as it arrived at one of the small API servers of the operator's tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class Request:
    """Method, path and what came with them; `body` is parsed JSON, or None."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
