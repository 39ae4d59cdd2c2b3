"""The part of CEL that the rules of the manifest use, evaluated in Python."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

Section = dict[str, Any]


class Seen:
    """A value as CEL sees it: fields by dots, methods by CEL's names."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __getattr__(self, name: str) -> Any:
        return seen(self._value[name])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Seen) and self._value == other._value

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self._value)

    def _each(self, claim: Callable[[Any], bool]) -> list[bool]:
        return [claim(seen(item)) for item in self._value]

    def exists(self, claim: Callable[[Any], bool]) -> bool:
        return any(self._each(claim))

    def all(self, claim: Callable[[Any], bool]) -> bool:
        return all(self._each(claim))

    def exists_one(self, claim: Callable[[Any], bool]) -> bool:
        return self._each(claim).count(True) == 1


class Text(str):
    def startsWith(self, prefix: str) -> bool:
        return self.startswith(prefix)

    def contains(self, part: str) -> bool:
        return part in self


def seen(value: Any) -> Any:
    return Seen(value) if isinstance(value, (dict, list)) else Text(value) if isinstance(value, str) else value


def has(section: Seen, path: str) -> bool:
    value: Any = section._value
    for step in path.split("."):
        if step not in value:
            return False
        value = value[step]
    return True


def evaluate(cel: str, new: Section, old: Section | None = None) -> bool:
    """The part of CEL that the rules use, rewritten into Python."""
    python = re.sub(r"has\((self|oldSelf)\.([\w.]+)\)", r"has(\1, '\2')", cel)
    python = re.sub(r"\.(exists|exists_one|all)\((\w+), ", r".\1(lambda \2: ", python)
    python = re.sub(r"!(?!=)", " not ", python.replace("&&", " and ").replace("||", " or "))
    return bool(eval(python, {"has": has, "size": len, "self": Seen(new), "oldSelf": Seen(old)}))
