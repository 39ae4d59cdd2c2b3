"""A problem of a manifest, in the form of every refusal: field, value, rule, way out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """`field`: path in the manifest; `value`: its value as text; `rule`: a clause such as "it must divide 32"; `way_out`: a sentence."""

    field: str
    value: str
    rule: str
    way_out: str

    def __str__(self) -> str:
        field, value = cut(self.field), cut(self.value)
        says = f"{field} is {value}" if value else field
        return f"{says}: {self.rule.rstrip('.')}. {self.way_out.rstrip('.')}."


LONGEST_PART, LONGEST = 400, 12_000
"""Most characters shown of a field or a value, and of all problems of a manifest together."""


def cut(text: str, longest: int = LONGEST_PART) -> str:
    """The text, truncated to `longest` characters."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def sentences(problems: Iterable[Problem]) -> str:
    """All problems in one text, for a status."""
    return cut(" ".join(map(str, problems)), LONGEST)


class PlanError(ValueError):
    """The manifest is well formed but cannot be trained. Has every problem found, not only the first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type[PlanError], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)


class NotKnownError(Exception):
    """Data outside the manifest, such as a model's config.json, is not known yet. The message is a sentence that says why."""
