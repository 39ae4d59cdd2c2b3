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
        says = f"{self.field} is {self.value}" if self.value else self.field
        return f"{says}: {self.rule.rstrip('.')}. {self.way_out.rstrip('.')}."


class PlanError(ValueError):
    """The manifest is well formed, yet what it asks for cannot be trained. Holds every problem found, never only the first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type[PlanError], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)


class NotKnownError(Exception):
    """What lies outside the manifest, such as a model's config.json, is not known at this moment. The text is a sentence that says why."""
