"""`llmtrain explain`: the types' own words."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.cli.app import invoke
from llmtrain_operator.cli.fields import explanation, type_text
from llmtrain_operator.cli.refusal import UsageError
from llmtrain_trainer.config import Dataset


def test_a_field_is_explained_with_type_meaning_and_default() -> None:
    lines = explanation("spec.training.microBatchSize")
    assert lines[0].startswith("spec.training.microBatchSize: integer, at least 1")
    assert "Sequences per forward pass" in lines[2]
    assert lines[3] == "  Default: 1"


def test_a_section_lists_its_fields() -> None:
    lines = explanation("spec.checkpoint.every")
    assert any(line.startswith("  interval ") for line in lines)


def test_no_text_of_a_field_is_cut() -> None:
    said = " ".join(" ".join(explanation("spec.dataset")).split())
    for field in Dataset.model_fields.values():
        assert " ".join((field.description or "").split()) in said
    assert all(len(line) <= 120 for line in explanation("spec.dataset"))


def test_items_of_a_list_are_reached_with_or_without_an_index() -> None:
    assert explanation("spec.dataset.weight")[2] == explanation("spec.dataset[0].weight")[2]


def test_every_field_can_be_explained() -> None:
    def walk(model: type[BaseModel], path: str) -> int:
        count = 0
        for name, field in model.model_fields.items():
            child = f"{path}{field.alias or name}"
            assert explanation(child)[0].startswith(child)
            nested = [part for part in (field.annotation, *getattr(field.annotation, "__args__", ())) if isinstance(part, type)]
            count += 1 + sum(walk(part, f"{child}.") for part in nested if issubclass(part, BaseModel))
        return count

    assert walk(LLMTrainJob, "") > 80


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("spec.training.microBatch", "Did you mean spec.training.microBatchSize?"),
        ("spec.zzz", "It has: task, model"),
        ("spec.suspend.now", "spec.suspend has no fields of its own."),
        ("sepc", "Did you mean spec?"),
        ("training.microBatchSize", "Did you mean spec.training?"),
        ("microBatch", "Did you mean spec.training.microBatchSize?"),
        ("spec.optimizer", "Did you mean spec.parallelism.offload.optimizer or spec.training.optimizer?"),
    ],
)
def test_a_field_that_there_is_not_gets_a_way_on(path: str, says: str) -> None:
    with pytest.raises(UsageError) as refused:
        explanation(path)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (Literal["bf16", "fp32"], "one of bf16, fp32"),
        (Annotated[int, Field(ge=1, le=9)], "integer, at least 1, at most 9"),
        (float | None, "number"),
        (Literal["latest", "none"] | Annotated[int, Field(ge=0)], "one of latest, none or integer, at least 0"),
        (tuple[str, ...], "list of texts"),
        (dict[str, str], "object"),
        (bool, "true or false"),
    ],
)
def test_types_are_told_in_plain_words(annotation: object, text: str) -> None:
    assert type_text(annotation) == text


def test_version_names_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["version"]) == 0
    assert capsys.readouterr().out.startswith("llmtrain ")
