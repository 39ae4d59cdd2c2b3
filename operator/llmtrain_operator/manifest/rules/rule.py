"""A rule over several fields of a section, as CEL for the API server and as Python for parsing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llmtrain_trainer.config.tables.data_rules import DataRule

Section = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule on the section at `at`. The refusal names `field`; a rule is not evaluated while a field in `reads` is invalid by itself."""

    at: str
    """Path of the section, such as spec.training; [] means every item of a list."""

    field: str
    """The field, below `at`, that a person should change."""

    reads: tuple[str, ...]
    """The fields, below `at`, that the rule reads."""

    cel: str
    """The rule for the API server; `self` is the section."""

    holds: Callable[[Section], bool]
    """The same rule in Python."""

    rule: str
    """The rule as a clause for a person."""

    way_out: str
    """What to write instead, as a sentence."""

    @property
    def message(self) -> str:
        """The message for the API server, which puts the section and its value in front."""
        return f"{self.field}: {self.rule}. {self.way_out}"


def shared(
    known: DataRule,
    *,
    reads: tuple[str, ...],
    cel: str,
    at: str = "spec",
    field: str | None = None,
    holds: Callable[[Section], bool] | None = None,
) -> Rule:
    """A rule that preparation checks too, in its words; `field` and `holds` where the section at `at` is not spec."""
    return Rule(
        at=at,
        field=field or known.field,
        reads=reads,
        cel=cel,
        holds=holds or known.holds,
        rule=known.rule,
        way_out=known.way_out,
    )
