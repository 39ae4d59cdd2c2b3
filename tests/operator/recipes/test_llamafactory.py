"""Recipes of LLaMA-Factory, and its register of datasets."""

from __future__ import annotations

from typing import Any

import pytest

from llmtrain_operator.manifest.parse import parse_object
from llmtrain_operator.recipes.counterpart import Counterpart
from llmtrain_operator.recipes.llamafactory.trainer import LLAMA_FACTORY
from llmtrain_operator.recipes.table import Devices
from llmtrain_operator.recipes.translate import Translation, translate

RECIPE: dict[str, Any] = {
    "model_name_or_path": "acme/llama-8b",
    "stage": "sft",
    "finetuning_type": "lora",
    "lora_rank": 16,
    "lora_target": "q_proj,v_proj",
    "dataset": "pairs, talks",
    "template": "llama3",
    "cutoff_len": 1024,
    "output_dir": "saves/lora",
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 8,
    "learning_rate": 1e-4,
    "num_train_epochs": 3.0,
    "lr_scheduler_type": "cosine",
    "warmup_ratio": 0.1,
    "bf16": True,
}
REGISTER: dict[str, Any] = {
    "pairs": {"file_name": "pairs.json", "columns": {"prompt": "question", "response": "answer", "system": "system"}},
    "talks": {
        "hf_hub_url": "acme/talks",
        "formatting": "sharegpt",
        "columns": {"messages": "turns"},
        "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "customer", "assistant_tag": "assistant"},
    },
    "plain": {"hf_hub_url": "acme/plain", "formatting": "sharegpt", "subset": "en", "split": "test", "num_samples": 7},
    "web": {"file_name": "web.jsonl", "columns": {"prompt": "content"}},
}


def translated(beside: dict[str, Any] | None = None, **changes: Any) -> Translation:
    recipe = RECIPE | changes
    return translate(LLAMA_FACTORY, recipe, name="job", devices=Devices(), beside=REGISTER if beside is None else beside)


def test_a_usual_recipe_becomes_a_valid_manifest() -> None:
    found = translated()
    spec = found.manifest["spec"]
    absolute = [dataset | {"source": dataset["source"].replace("file://./", "file:///")} for dataset in spec["dataset"]]
    parse_object(found.manifest | {"spec": spec | {"checkpoint": {"destination": "file:///x"}, "dataset": absolute}})
    assert spec["peft"] == {"method": "lora", "rank": 16, "targetModules": ["q_proj", "v_proj"], "alpha": 32.0}
    assert spec["training"]["globalBatchSize"] == 16
    assert spec["checkpoint"] == {"destination": "file://./saves/lora"}
    assert spec["tokenizer"] == {"chatTemplate": "llama3"}


@pytest.mark.parametrize(
    ("name", "stage", "expected"),
    [
        (
            "pairs",
            "sft",
            {"source": "file://./data/pairs.json", "format": "alpaca", "columns": {"instruction": "question", "output": "answer"}},
        ),
        (
            "talks",
            "sft",
            {"source": "hf://acme/talks", "format": "messages", "columns": {"messages": "turns"}, "roles": {"customer": "user"}},
        ),
        ("plain", "sft", {"source": "hf://acme/plain", "format": "sharegpt", "subset": "en", "split": "test", "maxSamples": 7}),
        ("web", "pt", {"source": "file://./data/web.jsonl", "format": "text", "columns": {"text": "content"}}),
        ("unknown", "sft", {"source": "file://./data/unknown.json", "format": "alpaca"}),
    ],
)
def test_a_name_of_the_register_becomes_an_entry(name: str, stage: str, expected: dict[str, Any]) -> None:
    assert translated(dataset=name, stage=stage).manifest["spec"]["dataset"] == [expected]


def test_a_name_that_is_not_in_the_register_is_told_as_a_guess() -> None:
    (line,) = (line for line in translated(dataset="unknown").lines if line.key == "dataset: unknown")
    assert line.told.outcome is Counterpart.DIFFERS and "guessed" in line.told.note


def test_probabilities_of_datasets_are_their_weights() -> None:
    found = translated(interleave_probs="0.7,0.3")
    assert [entry["weight"] for entry in found.manifest["spec"]["dataset"]] == [0.7, 0.3]


@pytest.mark.parametrize(
    ("changes", "key", "outcome"),
    [
        ({"finetuning_type": "full"}, "finetuning_type", Counterpart.SAME),
        ({"quantization_bit": 4}, "quantization_bit", Counterpart.DIFFERS),
        ({"stage": "ppo"}, "stage", Counterpart.CANNOT),
        ({"kt_config": {"kt_backend": "AMX"}}, "kt_config.kt_backend", Counterpart.CANNOT),
        ({"mask_history": True}, "mask_history", Counterpart.CANNOT),
        ({"template": "qwen3"}, "template", Counterpart.DIFFERS),
        ({"report_to": "none"}, "report_to", Counterpart.NO_EFFECT),
        ({"deepspeed": "examples/deepspeed/ds_z3_config.json"}, "deepspeed", Counterpart.MAPS),
    ],
)
def test_a_key_tells_what_became_of_it(changes: dict[str, Any], key: str, outcome: Counterpart) -> None:
    (line,) = (line for line in translated(**changes).lines if line.key == key)
    assert line.told.outcome is outcome


def test_its_defaults_are_written_where_they_are_others() -> None:
    found = translate(LLAMA_FACTORY, {"model_name_or_path": "a/b", "dataset": "pairs"}, name="job", devices=Devices(), beside=REGISTER)
    spec = found.manifest["spec"]
    assert spec["training"]["epochs"] == 3.0 and spec["training"]["microBatchSize"] == 8 and spec["training"]["packing"] is False
    assert spec["peft"]["rank"] == 8 and spec["peft"]["alpha"] == 16.0
