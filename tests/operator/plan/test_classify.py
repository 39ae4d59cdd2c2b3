"""Task classify in the plan: parameters as transformers counts them, no memory for logits over the vocabulary, and its engine."""

from __future__ import annotations

from typing import Any

import pytest

from llmtrain_operator.api.job import LLMTrainJob
from llmtrain_operator.manifest.parse import parse_object
from llmtrain_operator.manifest.problem import PlanError
from llmtrain_operator.plan.model.families import shape_of
from llmtrain_operator.plan.plan import Plan, plan
from llmtrain_trainer.config.tables.families import TRAINED
from llmtrain_trainer.config.tables.tasks import TASKS

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 32000,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}


def job_of(**changes: Any) -> LLMTrainJob:
    spec = {
        "task": "classify",
        "model": {"config": CONFIG},
        "tokenizer": {"source": "file:///models/tokenizer"},
        "dataset": [{"source": "s3://data/labelled.jsonl", "format": "textLabel"}],
        "training": {"globalBatchSize": 64, "sequenceLength": 128, "maxSteps": 100},
        "checkpoint": {"destination": "s3://bucket/job"},
        "resources": {"gpusPerNode": 4, "gpu": "H100-80GB"},
    }
    return parse_object({"apiVersion": "llmtrain.io/v1alpha1", "kind": "LLMTrainJob", "metadata": {"name": "job"}, "spec": spec | changes})


def planned(**changes: Any) -> Plan:
    return plan(job_of(**changes), shape_of(CONFIG))


def parameters(config: dict[str, Any], **more: Any) -> int:
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    with torch.device("meta"):
        network = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(**config, **more))
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("tied", [True, False])
def test_parameters_are_those_of_the_classifier(tied: bool) -> None:
    config = CONFIG | {"tie_word_embeddings": tied}
    found = plan(job_of(labels=["a", "b", "c"], model={"config": config}), shape_of(config))
    assert found.shape is not None
    assert found.shape.parameters == found.trainable == parameters(config, num_labels=3)


def test_beside_adapters_the_head_is_trained_in_full() -> None:
    with_head, without = planned(labels=["a", "b", "c"], peft={"rank": 8}), planned(labels=["a", "b"], peft={"rank": 8})
    assert with_head.trainable is not None and without.trainable is not None
    assert with_head.trainable - without.trainable == CONFIG["hidden_size"]


def test_no_memory_is_kept_for_logits_over_the_vocabulary() -> None:
    text, training = (
        [{"source": "s3://data/text.jsonl"}],
        {"globalBatchSize": 64, "microBatchSize": 16, "sequenceLength": 512, "maxSteps": 100},
    )
    of_classifier = planned(labels=["a", "b"], training=training).memory
    of_language = planned(task="sft", dataset=text, training=training | {"packing": False}).memory
    assert of_classifier is not None and of_language is not None
    logits = 2 * 16 * 512 * CONFIG["vocab_size"]
    assert of_language.peak - of_classifier.peak > logits / 2


def test_labels_that_the_manifest_leaves_out_are_counted_as_two_and_told() -> None:
    found = planned()
    assert found.shape is not None and found.shape.classes == 2
    assert any(sentence.startswith("spec.labels is not set") for sentence in found.advice)
    assert not any("spec.labels" in sentence for sentence in planned(labels=["a", "b"]).advice)


def test_auto_takes_the_engine_that_trains_it() -> None:
    assert planned(labels=["a", "b"], parallelism={"engine": "auto"}).engine == "native"


def test_families_without_a_classifier_are_refused_by_name() -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as CLASSES

    without = TASKS["classify"].not_of
    assert {family for family in TRAINED if family not in CLASSES} == set(without)
    config = CONFIG | {"model_type": "granite"}
    with pytest.raises(PlanError, match="no model of model_type granite with a head"):
        plan(job_of(labels=["a", "b"], model={"config": config}), shape_of(config))
