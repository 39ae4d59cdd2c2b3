"""Which fields of a job may change, and when: the rules of change in the CRD."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tests.operator.manifest.cel import evaluate

from llmtrain_operator.manifest import crd
from llmtrain_operator.manifest.schema import below

Section = dict[str, Any]
SPEC: Section = {
    "model": {"source": "hf://acme/tiny"},
    "dataset": [{"source": "file:///data"}],
    "training": {"globalBatchSize": 8, "sequenceLength": 128, "maxSteps": 100},
}
EPOCHS: Section = {"globalBatchSize": 8, "sequenceLength": 128, "epochs": 1.5}
STORE: Section = {"destination": "s3://bucket/job"}


def test_a_rule_of_change_names_its_field_and_reads_fields_that_exist() -> None:
    spec = crd.object_schema()["properties"]["spec"]
    for rule, message in crd._changes():
        assert re.fullmatch(r"[\w.]+: [^\n]+", message)
        for path in re.findall(r"(?:self|oldSelf)\.([\w.]+)", rule):
            assert below(spec, tuple(path.split("."))) is not None, path


BEFORE: Section = {
    **SPEC,
    "task": "pretrain",
    "suspend": False,
    "parallelism": {"engine": "native"},
    "resources": {"nodes": 1},
    "scheduling": {},
}
KEPT: Section = {**STORE, "resume": "latest", "keep": 3}
SUSPENDED: Section = {**BEFORE, "suspend": True}


@pytest.mark.parametrize(
    ("old", "new", "refused"),
    [
        (BEFORE, BEFORE, []),
        (BEFORE, {**BEFORE, "suspend": True, "ttlSecondsAfterFinished": 5, "output": {"report": False}}, []),
        (BEFORE, {**BEFORE, "task": "sft"}, ["task"]),
        (BEFORE, {**BEFORE, "training": EPOCHS}, ["training"]),
        (BEFORE, {**BEFORE, "peft": {}}, ["peft"]),
        ({**BEFORE, "peft": {}}, BEFORE, ["peft"]),
        (BEFORE, {**BEFORE, "managedBy": "a/b"}, ["managedBy"]),
        (BEFORE, {**BEFORE, "resources": {"nodes": 2}}, ["resources"]),
        (SUSPENDED, {**BEFORE, "resources": {"nodes": 2}}, []),
        (BEFORE, {**BEFORE, "parallelism": {"engine": "deepspeed"}}, ["parallelism"]),
        (SUSPENDED, {**BEFORE, "parallelism": {"engine": "deepspeed"}}, []),
        (BEFORE, {**BEFORE, "checkpoint": KEPT}, ["checkpoint"]),
        ({**BEFORE, "checkpoint": KEPT}, {**BEFORE, "checkpoint": {**KEPT, "keep": 9}}, []),
        ({**BEFORE, "checkpoint": KEPT}, {**BEFORE, "checkpoint": {**KEPT, "destination": "s3://c/d"}}, ["checkpoint.destination"]),
        ({**BEFORE, "checkpoint": KEPT}, {**BEFORE, "checkpoint": {**KEPT, "resume": 400}}, ["checkpoint.resume"]),
        ({**SUSPENDED, "checkpoint": KEPT}, {**SUSPENDED, "checkpoint": {**KEPT, "resume": 400}}, []),
    ],
)
def test_what_was_trained_stays_and_where_it_runs_changes_only_while_suspended(old: Section, new: Section, refused: list[str]) -> None:
    assert changed(old, new) == refused


def changed(old: Section, new: Section) -> list[str]:
    """The fields whose rule of change is broken."""
    return [message.split(":")[0] for rule, message in crd._changes() if not evaluate(rule, new, old)]
