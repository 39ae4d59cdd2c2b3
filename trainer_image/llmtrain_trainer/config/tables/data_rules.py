"""Rules on datasets that a manifest is checked by when it is parsed and preparation checks again, each with its words once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Section = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRule:
    """One rule on spec, or on the part of a TrainerConfig that has the same fields."""

    field: str
    """The field, below spec, that a person should change."""

    holds: Callable[[Section], bool]
    """Takes the section by the names of the manifest, without fields that are not set."""

    rule: str
    """The rule as a clause."""

    way_out: str
    """What to write instead, as a sentence."""


def _streams(datasets: Any) -> bool:
    return any(dataset["streaming"] for dataset in datasets)


VALIDATION_IS_READ_AGAIN = DataRule(
    field="evaluation.dataset",
    holds=lambda spec: not _streams(spec.get("evaluation", {}).get("dataset", ())),
    rule="validation data is read many times",
    way_out="Leave streaming out",
)
A_STREAM_HAS_NO_KNOWN_END = DataRule(
    field="training.maxSteps",
    holds=lambda spec: "maxSteps" in spec["training"] or not _streams(spec["dataset"]),
    rule="the end of a streaming dataset is not known",
    way_out="Give training.maxSteps, or set streaming to false",
)
A_STREAM_HOLDS_NOTHING_OUT = DataRule(
    field="evaluation.split",
    holds=lambda spec: not spec.get("evaluation", {}).get("split") or not _streams(spec["dataset"]),
    rule="a streaming dataset is not complete before training, so none of it can be held out",
    way_out="Give evaluation.dataset instead of split, or set streaming to false",
)

DATA_RULES = (VALIDATION_IS_READ_AGAIN, A_STREAM_HAS_NO_KNOWN_END, A_STREAM_HOLDS_NOTHING_OUT)
