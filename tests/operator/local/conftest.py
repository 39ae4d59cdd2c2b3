"""A small job and its plan, for every test of the local run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.manifest.parse import parse_object
from llmtrain_operator.plan.plan import plan
from llmtrain_operator.plan.trainer_config import trainer_config
from llmtrain_operator.sources import read_shape
from llmtrain_trainer.config import TrainerConfig


def manifest(**spec: Any) -> dict[str, Any]:
    shape = {
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "vocab_size": 512,
        "max_position_embeddings": 64,
    }
    body = {
        "model": {"config": shape},
        "tokenizer": {"train": {"vocabSize": 512}},
        "dataset": [{"source": "file:///data/text.jsonl"}],
        "training": {"globalBatchSize": 16, "sequenceLength": 64, "maxSteps": 10, "precision": "fp32"},
        "parallelism": {"tensor": 2, "pipeline": 2},
        "resources": {"procsPerNode": 8},
    }
    return {"apiVersion": "llmtrain.io/v1alpha1", "kind": "LLMTrainJob", "metadata": {"name": "small"}, "spec": body | spec}


@pytest.fixture
def make_job() -> Callable[..., LLMTrainJob]:
    """make_job(section=...) gives the small job with sections replaced."""
    return lambda **spec: parse_object(manifest(**spec))


@pytest.fixture
def resolve() -> Callable[[LLMTrainJob], TrainerConfig]:
    """The job's own plan as a TrainerConfig."""
    return lambda job: trainer_config(job, plan(job, read_shape(job.spec.model)), 1)
