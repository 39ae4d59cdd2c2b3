"""Recipes of LLaMA-Factory, and its register of datasets."""

from __future__ import annotations

from typing import Any

import pytest

from llmtrain_operator.manifest.parse import parse_object
from llmtrain_operator.recipes.counterpart import Counterpart
from llmtrain_operator.recipes.llamafactory.trainer import LLAMA_FACTORY
from llmtrain_operator.recipes.table import Beside, Devices
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
    return translate(LLAMA_FACTORY, recipe, name="job", devices=Devices(), beside=Beside(register=REGISTER if beside is None else beside))


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
    found = translate(
        LLAMA_FACTORY, {"model_name_or_path": "a/b", "dataset": "pairs"}, name="job", devices=Devices(), beside=Beside(register=REGISTER)
    )
    spec = found.manifest["spec"]
    assert spec["training"]["epochs"] == 3.0 and spec["training"]["microBatchSize"] == 8 and spec["training"]["packing"] is False
    assert spec["peft"]["rank"] == 8 and spec["peft"]["alpha"] == 16.0


def at(found: Translation, path: str) -> Any:
    """A value of the spec, None where it is not written."""
    where: Any = found.manifest["spec"]
    for name in path.split("."):
        where = where[int(name)] if name.isdigit() else where.get(name)
        if where is None:
            return None
    return where


@pytest.mark.parametrize(
    ("changes", "path", "value"),
    [
        ({}, "mixing", "concat"),
        ({"dataset": "pairs"}, "mixing", None),
        ({"mix_strategy": "interleave_under"}, "mixing", "under"),
        ({"mix_strategy": "interleave_over"}, "mixing", "over"),
        ({"mix_strategy": "interleave_once"}, "mixing", "concat"),
        ({"mix_strategy": "interleave_over", "max_steps": 9}, "mixing", None),
        ({"mix_strategy": "interleave_under", "interleave_probs": "0.7,0.3"}, "dataset.1.weight", 0.3),
        ({"mix_strategy": "interleave_under", "interleave_probs": "0.7,0.3"}, "mixing", "under"),
        ({"interleave_probs": "many"}, "dataset.0.weight", None),
        ({"use_dora": True}, "peft.method", "dora"),
        ({"use_rslora": True}, "peft.method", "rslora"),
        ({"use_rslora": True, "finetuning_type": "full"}, "peft", None),
        ({"neat_packing": True}, "training.packing", True),
        ({"neat_packing": True, "packing": False}, "training.packing", True),
        ({"bf16": False}, "training.precision", "fp32"),
        ({"bf16": False, "pure_bf16": True}, "training.precision", "bf16"),
        ({"bf16": None}, "training.precision", "bf16"),
        ({"warmup_steps": 0}, "training.schedule.warmupRatio", 0.1),
        ({"warmup_steps": 20}, "training.schedule.warmupRatio", None),
        ({"lr_scheduler_type": "constant"}, "training.schedule", {"name": "constant"}),
        ({"val_size": 0}, "evaluation", None),
        ({"val_size": 0.1}, "evaluation.split", 0.1),
        ({"val_size": 50, "dataset": "pairs"}, "evaluation.dataset.0.split", "train[:50]"),
        ({"val_size": 50}, "evaluation", None),
        ({"max_steps": -1}, "training.epochs", 3.0),
        ({"adam_epsilon": 1e-6}, "training.optimizer.epsilon", 1e-6),
        ({"fsdp": "shard_grad_op"}, "parallelism.zeroStage", 2),
        ({"deepspeed": "examples/deepspeed/ds_z2_offload_config.json"}, "parallelism.offload", {"optimizer": "cpu"}),
        ({"lora_target": r".*\.(q|v)_proj{1,1}"}, "peft.targetModules", [r".*\.(q|v)_proj{1,1}"]),
        ({"disable_gradient_checkpointing": True}, "training.activationCheckpointing", "none"),
        ({"eval_dataset": "plain", "max_samples": 5}, "evaluation.dataset.0.maxSamples", 5),
        ({"default_system": "Be brief."}, "dataset.0.system", "Be brief."),
        ({"default_system": "Be brief.", "stage": "pt", "dataset": "web"}, "dataset.0.system", None),
        ({"train_from_scratch": True}, "model.init", "random"),
    ],
)
def test_keys_that_depend_on_each_other(changes: dict[str, Any], path: str, value: Any) -> None:
    assert at(translated(**changes), path) == value


def test_pretraining_takes_the_defaults_of_its_trainer_and_is_valid() -> None:
    found = translated(stage="pt", dataset="web", finetuning_type="full")
    spec = found.manifest["spec"]
    entries = [entry | {"source": "hf://acme/web"} for entry in spec["dataset"]]
    parse_object(found.manifest | {"spec": spec | {"checkpoint": {"destination": "file:///x"}, "dataset": entries}})
    assert at(found, "training.optimizer") == {"learningRate": 1e-4, "weightDecay": 0.0, "betas": [0.9, 0.999]}
    assert at(found, "training.schedule.minRatio") == 0.0 and at(found, "training.packing") is None


TAGS = {"role_tag": "role", "content_tag": "content"}


@pytest.mark.parametrize(
    ("about", "expected", "outcome"),
    [
        ({"file_name": "a.json", "formatting": "openai"}, {"source": "file:///data/a.json", "format": "messages"}, Counterpart.MAPS),
        (
            {"file_name": "/rows/a.json", "formatting": "sharegpt", "columns": {"messages": "turns", "tools": "tools"}, "tags": TAGS},
            {"source": "file:///rows/a.json", "format": "messages", "columns": {"messages": "turns"}},
            Counterpart.MAPS,
        ),
        ({"cloud_file_name": "s3://b/a.json"}, {"source": "s3://b/a.json", "format": "alpaca"}, Counterpart.MAPS),
        ({"cloud_file_name": "gs://b/a.json"}, {"format": "alpaca"}, Counterpart.CANNOT),
        ({"hf_hub_url": "a/b", "folder": "de"}, {"source": "hf://a/b/de", "format": "alpaca"}, Counterpart.MAPS),
        ({"ms_hub_url": "a/b"}, {"source": "hf://a/b", "format": "alpaca"}, Counterpart.DIFFERS),
        ({"script_url": "make.py"}, {"format": "alpaca"}, Counterpart.CANNOT),
        ({"columns": {"prompt": "q"}}, {"format": "alpaca", "columns": {"instruction": "q"}}, Counterpart.CANNOT),
        (
            {"file_name": "a.json", "formatting": "sharegpt", "tags": {"role_tag": "who", "content_tag": "says"}},
            {"source": "file:///data/a.json", "format": "sharegpt"},
            Counterpart.CANNOT,
        ),
        ({"file_name": "a.json", "ranking": True}, {"source": "file:///data/a.json", "format": "alpaca"}, Counterpart.CANNOT),
        (
            {"file_name": "a.json", "columns": {"images": "images"}},
            {"source": "file:///data/a.json", "format": "alpaca"},
            Counterpart.CANNOT,
        ),
    ],
)
def test_a_description_becomes_an_entry_with_paths_beside_the_register(
    about: dict[str, Any], expected: dict[str, Any], outcome: Counterpart
) -> None:
    beside = Beside(register={"it": about}, directory="/data")
    found = translate(LLAMA_FACTORY, RECIPE | {"dataset": "it"}, name="job", devices=Devices(), beside=beside)
    assert found.manifest["spec"]["dataset"] == [expected]
    assert {line.key: line.told.outcome for line in found.lines}["dataset: it"] is outcome


@pytest.mark.parametrize(
    ("changes", "key", "outcome", "says"),
    [
        ({"use_kt": False}, "use_kt", Counterpart.NO_EFFECT, "off"),
        ({"packing": True}, "packing", Counterpart.DIFFERS, "neat_packing"),
        ({"neat_packing": True}, "neat_packing", Counterpart.MAPS, ""),
        ({"bf16": False}, "bf16", Counterpart.DIFFERS, "type of the weights"),
        ({"bf16": None}, "bf16 (its default)", Counterpart.DIFFERS, "type of the weights"),
        ({"interleave_probs": "many"}, "interleave_probs", Counterpart.CANNOT, "not a number"),
        ({"interleave_probs": "0.5"}, "interleave_probs", Counterpart.CANNOT, "1 probabilities for 2"),
        ({"mix_strategy": "interleave_over", "max_steps": 9}, "mix_strategy", Counterpart.NO_EFFECT, "drawn by weight"),
        ({"default_system": "x", "stage": "pt", "dataset": "web"}, "default_system", Counterpart.NO_EFFECT, "no dataset"),
        ({"finetuning_type": "full"}, "lora_rank", Counterpart.NO_EFFECT, "all weights"),
        ({"val_size": 50}, "val_size", Counterpart.CANNOT, "train[:50]"),
    ],
)
def test_what_a_key_becomes_beside_others_is_told(changes: dict[str, Any], key: str, outcome: Counterpart, says: str) -> None:
    (line,) = (line for line in translated(**changes).lines if line.key == key)
    assert line.told.outcome is outcome and says in line.told.note
