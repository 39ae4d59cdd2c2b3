"""Recipes of Axolotl: what each key becomes, and that the manifest says what the recipe trains."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from llmtrain_operator.manifest.parse import parse_object
from llmtrain_operator.recipes.axolotl.trainer import AXOLOTL
from llmtrain_operator.recipes.counterpart import Counterpart
from llmtrain_operator.recipes.table import Devices
from llmtrain_operator.recipes.translate import Translation, translate

RECIPE = yaml.safe_load("""
base_model: acme/llama-1b
datasets:
  - {path: acme/instructions, type: alpaca}
  - path: acme/talks
    type: chat_template
    split: "train[:20%]"
    field_messages: turns
    message_property_mappings: {role: from, content: value}
    roles: {user: [human, asker], assistant: [gpt]}
val_set_size: 0.1
output_dir: ./outputs/lora
adapter: lora
lora_r: 32
lora_alpha: 16
lora_target_linear: true
sequence_len: 2048
sample_packing: true
gradient_accumulation_steps: 4
micro_batch_size: 2
num_epochs: 3
optimizer: adamw_torch
lr_scheduler: cosine
learning_rate: 2e-4
warmup_ratio: 0.1
bf16: auto
gradient_checkpointing: true
wandb_project:
special_tokens: {pad_token: <pad>}
""")


def translated(devices: Devices | None = None, **changes: Any) -> Translation:
    recipe = {key: value for key, value in (RECIPE | changes).items() if value != "absent"}
    return translate(AXOLOTL, recipe, name="job", devices=devices or Devices(), beside={})


def outcomes(found: Translation) -> dict[str, tuple[Counterpart, str]]:
    return {line.key: (line.told.outcome, line.told.note) for line in found.lines}


def test_a_usual_recipe_becomes_a_valid_manifest_that_says_all_of_it() -> None:
    found = translated()
    parse_object(found.manifest | {"spec": found.manifest["spec"] | {"checkpoint": {"destination": "file:///x"}}})
    spec = found.manifest["spec"]
    assert not [line.key for line in found.lines if line.told.outcome is Counterpart.CANNOT]
    assert spec["peft"] == {"method": "lora", "rank": 32, "alpha": 16.0, "targetModules": ["all-linear"], "dropout": 0.0}
    assert spec["training"] == {
        "sequenceLength": 2048,
        "packing": True,
        "microBatchSize": 2,
        "globalBatchSize": 8,
        "epochs": 3.0,
        "optimizer": {"name": "adamw", "learningRate": 2e-4, "weightDecay": 0.0},
        "schedule": {"name": "cosine", "warmupRatio": 0.1},
        "precision": "bf16",
        "activationCheckpointing": "full",
        "seed": 42,
    }


def test_datasets_keep_their_columns_slices_and_speakers() -> None:
    assert translated().manifest["spec"]["dataset"] == [
        {"source": "hf://acme/instructions", "format": "alpaca"},
        {
            "source": "hf://acme/talks",
            "format": "sharegpt",
            "split": "train[:20%]",
            "columns": {"conversations": "turns"},
            "roles": {"human": "user", "asker": "user", "gpt": "assistant"},
        },
    ]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (
            {"path": "./x.jsonl", "type": "completion", "field": "body"},
            {"source": "file://./x.jsonl", "format": "text", "columns": {"text": "body"}},
        ),
        ({"path": "json", "data_files": ["a.json"], "type": "alpaca"}, {"source": "file://./a.json", "format": "alpaca"}),
        ({"path": "acme/r", "data_files": "a.json", "type": "alpaca"}, {"source": "hf://acme/r/a.json", "format": "alpaca"}),
        ({"path": "acme/c", "type": "chat_template"}, {"source": "hf://acme/c", "format": "messages"}),
        ({"path": "acme/c", "type": "sharegpt"}, {"source": "hf://acme/c", "format": "sharegpt"}),
        (
            {"path": "acme/c", "name": "de", "type": "alpaca", "split": "train"},
            {"source": "hf://acme/c", "subset": "de", "format": "alpaca"},
        ),
        (
            {"path": "acme/c", "type": {"field_instruction": "q", "field_output": "a", "format": "[Q] {instruction} [A]"}},
            {"source": "hf://acme/c", "format": "promptCompletion", "template": {"prompt": "[Q] {{ q }} [A]", "completion": "{{ a }}"}},
        ),
    ],
)
def test_an_entry_of_datasets(entry: dict[str, Any], expected: dict[str, Any]) -> None:
    assert translated(datasets=[entry]).manifest["spec"]["dataset"] == [expected]


@pytest.mark.parametrize(
    ("changes", "key", "outcome", "says"),
    [
        ({"adapter": "qlora"}, "adapter", Counterpart.DIFFERS, "not quantised"),
        ({"optimizer": "adamw_bnb_8bit"}, "optimizer", Counterpart.DIFFERS, "stay in fp32"),
        ({"optimizer": "sophia"}, "optimizer", Counterpart.CANNOT, "adamw"),
        ({"val_set_size": 200}, "val_set_size", Counterpart.CANNOT, "train[-200:]"),
        ({"train_on_inputs": True}, "train_on_inputs", Counterpart.CANNOT, "dataset[].template"),
        ({"train_on_inputs": False}, "train_on_inputs", Counterpart.SAME, ""),
        ({"flash_attention": True}, "flash_attention", Counterpart.NO_EFFECT, "kernel"),
        ({"wandb_entity": "me"}, "wandb_entity", Counterpart.NO_EFFECT, "logs"),
        ({"plugins": ["axolotl.integrations.liger.LigerPlugin"]}, "plugins", Counterpart.NO_EFFECT, "kernels"),
        ({"plugins": ["my.Own"]}, "plugins", Counterpart.CANNOT, "my.Own"),
        ({"chat_template": "no_such"}, "chat_template", Counterpart.DIFFERS, "tokenizer's own"),
        ({"trl": {"num_generations": 8}}, "trl.num_generations", Counterpart.CANNOT, "generated answers"),
        ({"lora_r": "many"}, "lora_r", Counterpart.CANNOT, "'many' is not a number"),
        ({"a_new_key": 1}, "a_new_key", Counterpart.CANNOT, "does not know"),
        ({"load_in_4bit": False}, "load_in_4bit", Counterpart.SAME, "off"),
    ],
)
def test_a_key_tells_what_became_of_it(changes: dict[str, Any], key: str, outcome: Counterpart, says: str) -> None:
    found = outcomes(translated(**changes))[key]
    assert found[0] is outcome and says in found[1]


@pytest.mark.parametrize(
    ("changes", "path", "value"),
    [
        ({"max_steps": 100}, ("training", "maxSteps"), 100),
        ({"adam_beta2": 0.95}, ("training", "optimizer", "betas"), [0.9, 0.95]),
        ({"eta_min": 2e-5}, ("training", "schedule", "minRatio"), pytest.approx(0.1)),
        ({"warmup_steps": 10}, ("training", "schedule"), {"name": "cosine", "warmupSteps": 10}),
        ({"deepspeed": "deepspeed_configs/zero2.json"}, ("parallelism",), {"engine": "deepspeed", "zeroStage": 2}),
        ({"fsdp": ["full_shard"]}, ("parallelism", "zeroStage"), 3),
        ({"peft_use_rslora": True}, ("peft", "method"), "rslora"),
        ({"save_total_limit": 1}, ("checkpoint", "keep"), 2),
        ({"dataset_exact_deduplication": True}, ("dataset", 0, "clean"), {"duplicates": "exact"}),
        ({"default_system_message": "Be brief."}, ("dataset", 1, "system"), "Be brief."),
        ({"gradient_checkpointing": "absent"}, ("training", "activationCheckpointing"), "none"),
    ],
)
def test_a_key_sets_its_field(changes: dict[str, Any], path: tuple[Any, ...], value: Any) -> None:
    where: Any = translated(**changes).manifest["spec"]
    for name in path:
        where = where[name]
    assert where == value


def test_datasets_to_evaluate_on_are_those_of_the_evaluation() -> None:
    found = translated(val_set_size="absent", test_datasets=[{"path": "./held.jsonl", "type": "alpaca", "split": "test"}])
    assert found.manifest["spec"]["evaluation"] == {"dataset": [{"source": "file://./held.jsonl", "format": "alpaca", "split": "test"}]}
    assert outcomes(found)["test_datasets[0].path"][0] is Counterpart.MAPS


@pytest.mark.parametrize("order", [1, -1])
def test_all_linear_layers_win_over_those_that_are_named(order: int) -> None:
    keys = [("lora_target_linear", True), ("lora_target_modules", ["q_proj"])][::order]
    recipe = {key: value for key, value in RECIPE.items() if key != "lora_target_linear"} | dict(keys)
    found = translate(AXOLOTL, recipe, name="job", devices=Devices(), beside={})
    assert found.manifest["spec"]["peft"]["targetModules"] == ["all-linear"]


def test_a_key_that_is_left_empty_is_as_if_it_were_not_there() -> None:
    found = translated(max_steps=None, sequence_len=None, warmup_steps=None)
    assert outcomes(found)["max_steps"] == (Counterpart.SAME, "left empty")
    assert found.manifest["spec"]["training"]["sequenceLength"] == 512 and found.manifest["spec"]["training"]["epochs"] == 3.0


def test_without_an_adapter_all_weights_are_trained_and_exported() -> None:
    spec = translated(adapter="absent").manifest["spec"]
    assert "peft" not in spec and "output" not in spec


def test_the_batch_counts_the_replicas_that_the_degrees_leave() -> None:
    found = translated(Devices(nodes=2, gpus_per_node=8, gpu="H100-80GB"), tensor_parallel_size=4)
    assert found.manifest["spec"]["training"]["globalBatchSize"] == 2 * 4 * 4
    assert found.manifest["spec"]["resources"] == {"nodes": 2, "gpusPerNode": 8, "gpu": "H100-80GB"}


def test_text_for_pretraining_streams_as_task_pretrain() -> None:
    found = translated(datasets="absent", adapter="absent", pretraining_dataset=[{"path": "acme/web", "type": "pretrain"}], max_steps=10)
    assert found.manifest["spec"]["task"] == "pretrain"
    assert found.manifest["spec"]["dataset"] == [{"source": "hf://acme/web", "format": "text", "streaming": True}]


def test_defaults_of_the_trainer_that_are_others_here_are_written_and_marked() -> None:
    found = outcomes(translated(sequence_len="absent"))
    assert "sequence_len (its default)" in found
    assert translated(sequence_len="absent").manifest["spec"]["training"]["sequenceLength"] == 512
