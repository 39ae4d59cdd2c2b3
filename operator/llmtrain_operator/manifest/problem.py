"""One thing wrong with a manifest, in the form every refusal has: field, value, rule, way out. Parsing and planning raise it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """`field` is the path in the manifest, `value` what stands there, `rule` a clause such as "it must divide 32", `way_out` a sentence."""

    field: str
    value: str
    rule: str
    way_out: str

    def __str__(self) -> str:
        field, value = cut(self.field), cut(self.value)
        says = f"{field} is {value}" if value else field
        return f"{says}: {self.rule.rstrip('.')}. {self.way_out.rstrip('.')}."


LONGEST_PART, LONGEST = 400, 12_000
"""Characters of a field or a value, and of all problems of a manifest together, that a sentence shows."""


def cut(text: str, longest: int = LONGEST_PART) -> str:
    """A name in a manifest may have as many characters as a manifest; a status and a terminal take fewer."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def sentences(problems: Iterable[Problem]) -> str:
    """All problems in one text, as a status shows them."""
    return cut(" ".join(map(str, problems)), LONGEST)


class PlanError(ValueError):
    """The manifest is well formed, yet what it asks for cannot be trained. Holds every problem found, never only the first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type[PlanError], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)


class NotKnownError(Exception):
    """What lies outside the manifest, such as a model's config.json, is not known at this moment. The text is a sentence that says why."""
