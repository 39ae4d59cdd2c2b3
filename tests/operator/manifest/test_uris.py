"""The fields of a manifest that hold URIs: one list, which volumes, adaptation and command line read."""

from __future__ import annotations

from typing import Any

import pytest

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.api.job.spec import Spec
from llmtrain_operator.manifest.uris import UriField, uris

SPEC: dict[str, Any] = {
    "task": "sft",
    "model": {"source": "hf://a/model"},
    "tokenizer": {"source": "pvc://tok/a"},
    "dataset": [{"source": "s3://data/a.jsonl"}, {"source": "pvc://data/b.jsonl"}],
    "evaluation": {"dataset": [{"source": "pvc://held/c.jsonl"}], "everySteps": 10},
    "checkpoint": {"destination": "pvc://ckpt"},
    "output": {"destination": "s3://out/x"},
    "training": {"globalBatchSize": 8, "sequenceLength": 64, "maxSteps": 10},
    "resources": {"nodes": 1, "procsPerNode": 1},
}


def spec(**changes: Any) -> Spec:
    return Spec.model_validate({key: value for key, value in (SPEC | changes).items() if value is not None})


def test_every_uri_is_listed_with_its_field_and_whether_training_writes_there() -> None:
    assert {(found.field, found.uri, found.written) for found in uris(spec())} == {
        ("spec.model.source", "hf://a/model", False),
        ("spec.tokenizer.source", "pvc://tok/a", False),
        ("spec.dataset[0].source", "s3://data/a.jsonl", False),
        ("spec.dataset[1].source", "pvc://data/b.jsonl", False),
        ("spec.evaluation.dataset[0].source", "pvc://held/c.jsonl", False),
        ("spec.checkpoint.destination", "pvc://ckpt", True),
        ("spec.output.destination", "s3://out/x", True),
    }


def test_what_is_left_out_is_not_listed() -> None:
    fields = {found.field for found in uris(spec(tokenizer=None, evaluation=None, checkpoint=None, output=None))}
    assert fields == {"spec.model.source", "spec.dataset[0].source", "spec.dataset[1].source"}


@pytest.mark.parametrize(
    ("uri", "claim"),
    [("pvc://name", "name"), ("pvc://name/a/b", "name"), ("s3://name/a", None), ("hf://a/b", None)],
)
def test_a_claim_is_named_by_pvc_alone(uri: str, claim: str | None) -> None:
    assert UriField("spec.model.source", uri, written=False).claim == claim


def _uri_fields(kind: Any, path: str = "spec", seen: tuple[Any, ...] = ()) -> set[str]:
    """Fields called source or destination anywhere in the types."""
    found: set[str] = set()
    for name, field in kind.model_fields.items():
        at = f"{path}.{name}"
        if name in ("source", "destination"):
            found.add(at)
        for inner in _models(field.annotation):
            if inner not in seen:
                found |= _uri_fields(inner, at, (*seen, inner))
    return found


def _models(annotation: Any) -> set[Any]:
    if hasattr(annotation, "model_fields"):
        return {annotation}
    return {model for each in getattr(annotation, "__args__", ()) for model in _models(each)}


def test_no_field_of_the_manifest_that_names_a_source_or_destination_is_forgotten() -> None:
    listed = {found.field.replace("[0]", "").replace("[1]", "") for found in uris(spec())}
    assert _uri_fields(LLMTrainJob.model_fields["spec"].annotation) == listed
