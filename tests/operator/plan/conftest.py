"""Manifests and shapes that the tests of the plan share, as fixtures that make them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.manifest.parse import parse_manifest
from llmtrain_operator.plan.model.families import shape_of
from llmtrain_operator.plan.plan import Plan, plan

BASE: dict[str, Any] = {
    "tokenizer": {"source": "file:///models/tokenizer"},
    "dataset": [{"source": "file:///data/corpus.jsonl"}],
    "training": {"globalBatchSize": 64, "sequenceLength": 2048, "maxSteps": 1000},
    "resources": {"nodes": 1, "gpusPerNode": 8, "gpu": "H100-80GB"},
}


def config_of(name: str) -> dict[str, Any]:
    """A config.json of shapes/."""
    found: dict[str, Any] = json.loads((Path(__file__).parents[1] / "shapes" / f"{name}.json").read_text())
    return found


def job_of(named: str = "llama-3-8b", /, **sections: Any) -> LLMTrainJob:
    """BASE with sections laid over it; training is merged, the others replaced, None taken out."""
    spec = copy.deepcopy(BASE) | {"model": {"config": config_of(named)}}
    for name, value in sections.items():
        spec[name] = spec[name] | value if name == "training" else value
    spec = {name: value for name, value in spec.items() if value is not None}
    document = {"apiVersion": "llmtrain.io/v1alpha1", "kind": "LLMTrainJob", "metadata": {"name": "job"}, "spec": spec}
    return parse_manifest(yaml.safe_dump(document))


@pytest.fixture
def job() -> Callable[..., LLMTrainJob]:
    """A manifest: the name of a shape, and sections of the spec."""
    return job_of


@pytest.fixture
def planned() -> Callable[..., Plan]:
    """The plan of such a manifest; the shape is that of the name even where the model has a source."""

    def make(named: str = "llama-3-8b", /, **sections: Any) -> Plan:
        return plan(job_of(named, **sections), shape_of(config_of(named)))

    return make


@pytest.fixture
def term() -> Callable[[Plan, str], int]:
    """Bytes of one term of a plan's memory; 0 where it is not there."""

    def find(found: Plan, name: str) -> int:
        assert found.memory
        return next((term.bytes for term in found.memory.terms if term.name == name), 0)

    return find
