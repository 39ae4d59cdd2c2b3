"""Fields that are read with some values of another field only: set beside any other value they would be ignored, so they are refused.

A value that equals the field's default is accepted: the API server writes it by itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

from llmtrain_operator.manifest.divisors import listed
from llmtrain_operator.manifest.rules.rule import Rule, Section
from llmtrain_trainer.config import Columns
from llmtrain_trainer.config.dataset import RowTemplate
from llmtrain_trainer.config.tables.tasks import Format


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadWhen:
    """`field` is read where `by`, of the same section, is one of `values`."""

    at: str
    field: str
    default: str | float | bool | None
    """What the field is where it is left out; None: absent."""

    by: str
    values: tuple[str, ...]
    rule: str

    @property
    def refusal(self) -> Rule:
        """The refusal of the field beside any other value."""
        return Rule(
            at=self.at,
            field=self.field,
            reads=(self.by, *self._optional, self.field),
            cel=f"{self._unset} || {self._read}",
            holds=self._holds,
            rule=self.rule,
            way_out=f"Leave {self.field.rpartition('.')[2]} out, or write {self.by}: {listed(self.values)}",
        )

    @property
    def _unset(self) -> str:
        """A CEL expression: the field has its default."""
        if self.default is None:
            return " || ".join(f"!has(self.{path})" for path in (*self._optional, self.field))
        if isinstance(self.default, bool):
            return f"{'' if self.default else '!'}self.{self.field}"
        return f"self.{self.field} == {json.dumps(self.default).replace(chr(34), chr(39))}"

    @property
    def _optional(self) -> tuple[str, ...]:
        """Sections above a field without a default, which may be absent themselves."""
        section = self.field.rpartition(".")[0]
        return (section,) if section and self.default is None else ()

    @property
    def _read(self) -> str:
        words = [f"'{value}'" for value in self.values]
        return f"self.{self.by} == {words[0]}" if len(words) == 1 else f"self.{self.by} in [{', '.join(words)}]"

    def _holds(self, section: Section) -> bool:
        value: object = section
        for step in self.field.split("."):
            value = value.get(step) if isinstance(value, dict) else None
        return value == self.default or section[self.by] in self.values


COLUMNS: dict[str, tuple[Format, ...]] = {
    "text": ("text", "lines", "textLabel"),
    "label": ("textLabel",),
    "prompt": ("promptCompletion",),
    "completion": ("promptCompletion",),
    "messages": ("messages",),
    "conversations": ("sharegpt",),
    "instruction": ("alpaca",),
    "input": ("alpaca",),
    "output": ("alpaca",),
    "history": ("alpaca",),
    "system": ("sharegpt", "alpaca"),
    "context": ("squad",),
    "question": ("squad",),
    "answers": ("squad",),
    "ids": ("tokens",),
    "labels": ("tokens",),
    "tools": ("promptCompletion", "messages", "sharegpt", "alpaca"),
}
"""Field of columns -> the formats that read it."""

_ANSWERS: tuple[Format, ...] = ("promptCompletion", "messages", "sharegpt", "alpaca", "squad")
"""Formats of which answers are learned."""

_WITH_TEXT: tuple[Format, ...] = tuple(each for each in get_args(Format) if each != "tokens")

_OF_ANSWERS: dict[str, str | float | bool | None] = {
    "maxCut": 0.5,
    "dropReasoning": False,
    "truncate.prompt": "left",
    "truncate.reserve": None,
}
"""Settings of datasets with answers, and their defaults."""


def _of_datasets(at: str) -> Iterator[ReadWhen]:
    for column, formats in COLUMNS.items():
        default = str(getattr(Columns(), column))
        yield ReadWhen(
            at=at, field=f"columns.{column}", default=default, by="format", values=formats, rule="this format reads no such column"
        )
    yield ReadWhen(at=at, field="system", default=None, by="format", values=_ANSWERS, rule="this format has no conversations")
    for key in RowTemplate.model_fields:
        yield ReadWhen(
            at=at, field=f"template.{key}", default=None, by="format", values=COLUMNS[key], rule="this format reads no such column"
        )
    for field, unset in _OF_ANSWERS.items():
        formats = _ANSWERS if field == "dropReasoning" else (*_ANSWERS, "tokens")
        yield ReadWhen(at=at, field=field, default=unset, by="format", values=formats, rule="this format has no prompts and answers")
    yield ReadWhen(
        at=at, field="noAnswer", default=None, by="format", values=("squad",), rule="this format has no questions without answers"
    )
    for field in ("clean.minCharacters", "clean.maxCharacters"):
        yield ReadWhen(at=at, field=field, default=None, by="format", values=_WITH_TEXT, rule="this format has ids and no characters")


READ_WHEN: tuple[ReadWhen, ...] = (
    *_of_datasets("spec.dataset[]"),
    *_of_datasets("spec.evaluation.dataset[]"),
    ReadWhen(
        at="spec.tokenizer.train",
        field="minFrequency",
        default=2,
        by="algorithm",
        values=("bpe", "wordpiece"),
        rule="unigram merges no pairs",
    ),
    ReadWhen(
        at="spec.training.schedule",
        field="minRatio",
        default=None,
        by="name",
        values=("linear", "cosine", "wsd", "polynomial", "cosineRestarts"),
        rule="a constant rate does not decay",
    ),
    ReadWhen(
        at="spec.training.schedule",
        field="decayRatio",
        default=0.2,
        by="name",
        values=("wsd",),
        rule="only schedule wsd decays over a part of the steps; the others decay over all of them",
    ),
    ReadWhen(
        at="spec.training.schedule",
        field="power",
        default=1.0,
        by="name",
        values=("polynomial",),
        rule="only schedule polynomial decays with a power",
    ),
    ReadWhen(
        at="spec.training.schedule",
        field="cycles",
        default=1,
        by="name",
        values=("cosineRestarts",),
        rule="only schedule cosineRestarts starts again",
    ),
)


def _has_stages(parallelism: Section) -> bool:
    return "schedule" not in parallelism or parallelism["auto"] or parallelism.get("pipeline", 1) > 1


UNREAD: tuple[Rule, ...] = (
    *(read.refusal for read in READ_WHEN),
    Rule(
        at="spec.evaluation.dataset[]",
        field="weight",
        reads=("weight",),
        cel="self.weight == 1.0",
        holds=lambda self: self["weight"] == 1,
        rule="validation data is not mixed: evaluation.maxSamples sequences are spread over all of it",
        way_out="Leave weight out, or limit a dataset by its maxSamples",
    ),
    Rule(
        at="spec.resources",
        field="gpuResource",
        reads=("gpusPerNode", "gpuResource"),
        cel="self.gpusPerNode > 0 || self.gpuResource == 'nvidia.com/gpu'",
        holds=lambda self: self["gpusPerNode"] > 0 or self["gpuResource"] == "nvidia.com/gpu",
        rule="no GPU is requested",
        way_out="Leave gpuResource out, or request GPUs in gpusPerNode",
    ),
    Rule(
        at="spec",
        field="parallelism.schedule",
        reads=("parallelism",),
        cel="!has(self.parallelism.schedule) || self.parallelism.auto || (has(self.parallelism.pipeline) && self.parallelism.pipeline > 1)",
        holds=lambda self: _has_stages(self["parallelism"]),
        rule="only a pipeline has a schedule",
        way_out="Leave schedule out, or set pipeline to 2 or more",
    ),
    Rule(
        at="spec.output",
        field="destination",
        reads=("destination", "export", "report"),
        cel="!has(self.destination) || self.report || size(self.export) > 0",
        holds=lambda self: "destination" not in self or self["report"] or len(self["export"]) > 0,
        rule="nothing is exported or reported",
        way_out="Leave destination out, or name in export what it receives",
    ),
)
