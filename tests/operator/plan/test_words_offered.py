"""Every word that `llmtrain explain` and the CRD offer is planned in some job: none is there only to be refused."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from llmtrain_operator.cli.manifest import with_setting
from llmtrain_operator.manifest.parse import ManifestError, manifest_schema, parse_object
from llmtrain_operator.manifest.problem import PlanError
from llmtrain_operator.plan.model.families import shape_of
from llmtrain_operator.plan.plan import plan

JOB: dict[str, Any] = {
    "apiVersion": "llmtrain.io/v1alpha1",
    "kind": "LLMTrainJob",
    "metadata": {"name": "job"},
    "spec": {
        "task": "sft",
        "model": {
            "config": {
                "model_type": "llama",
                "hidden_size": 256,
                "intermediate_size": 512,
                "num_hidden_layers": 8,
                "num_attention_heads": 8,
                "vocab_size": 512,
            }
        },
        "tokenizer": {"train": {"vocabSize": 300}},
        "dataset": [{"source": "s3://data/chat.jsonl", "format": "messages"}],
        "training": {"globalBatchSize": 64, "sequenceLength": 128, "maxSteps": 10},
        "checkpoint": {"destination": "s3://bucket/job"},
        "resources": {"nodes": 2, "gpusPerNode": 4, "gpu": "H100-80GB", "memory": "512Gi"},
    },
}
BESIDE: dict[str, list[str]] = {
    "spec.model.init=pretrained": ["spec.model={source: 's3://models/llama'}", "spec.tokenizer=null"],
    "spec.task=pretrain": ["spec.dataset[0].format=text"],
    "spec.mixing": ["spec.training.maxSteps=null", "spec.training.epochs=2"],
    "spec.task=classify": ["spec.dataset[0].format=textLabel"],
    "spec.dataset[0].format=textLabel": ["spec.task=classify"],
    "spec.evaluation.dataset[0].format=textLabel": ["spec.task=classify", "spec.dataset[0].format=textLabel"],
    "spec.dataset[0].format=tokens": ["spec.tokenizer={source: 's3://models/llama'}"],
    "spec.evaluation.dataset[0].format=tokens": ["spec.tokenizer={source: 's3://models/llama'}"],
    "spec.parallelism.schedule=interleaved": ["spec.parallelism.virtualStages=2", "spec.parallelism.pipeline=2"],
    "spec.parallelism.schedule": ["spec.parallelism.pipeline=2"],
    "spec.parallelism.offload": ["spec.parallelism.engine=deepspeed", "spec.parallelism.zeroStage=3"],
    "spec.output.export": ["spec.peft={}"],
    "spec.scheduling.tolerations": ["spec.scheduling.tolerations[0].key=a"],
}
"""What a word needs beside it: by the word, else by how its path begins."""


def words(schema: dict[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for word in schema.get("enum", ()):
        yield path, word
    for option in schema.get("anyOf", ()):
        for word in option.get("enum", ()):
            yield path, word
    for name, inner in schema.get("properties", {}).items():
        yield from words(inner, f"{path}.{name}")
    if isinstance(schema.get("items"), dict):
        yield from words(schema["items"], f"{path}[0]")


OFFERED = list(words(manifest_schema()["properties"]["spec"], "spec"))


@pytest.mark.parametrize(("path", "word"), OFFERED, ids=[f"{path}={word}" for path, word in OFFERED])
def test_every_word_that_is_offered_can_be_planned(path: str, word: Any) -> None:
    changes = BESIDE.get(f"{path}={word}") or next((found for start, found in BESIDE.items() if path.startswith(start)), [])
    if path.endswith("[0]"):
        changes, path, word = [*changes], path.removesuffix("[0]"), f"[{word}]"
    if ".nvme" in f"{path}.{word}":
        changes = [*changes, "spec.parallelism.offload.path=/local"]
    tree = copy.deepcopy(JOB)
    if path.startswith("spec.evaluation"):
        tree["spec"]["evaluation"] = {"dataset": [{"source": "s3://data/held.jsonl", "format": "messages"}]}
    if path.startswith("spec.scheduling.tolerations"):
        tree["spec"]["scheduling"] = {"tolerations": [{}]}
        changes = ["spec.scheduling.tolerations[0].key=a", *(["spec.scheduling.tolerations[0].effect=NoExecute"])]
    for change in [*changes, f"{path}={word}"]:
        tree = with_setting(tree, change)
    try:
        job = parse_object(tree)
        plan(job, shape_of(job.spec.model.config) if job.spec.model.config else None)
    except (ManifestError, PlanError) as error:
        pytest.fail(f"{path}: {word} is offered and refused: {error}")
