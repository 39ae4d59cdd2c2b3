"""Recipes of Axolotl: what each key becomes, and that the manifest says what the recipe trains."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from llmtrain_operator.manifest.parse import parse_object
from llmtrain_operator.recipes.axolotl.prompt import ALPACA
from llmtrain_operator.recipes.axolotl.trainer import AXOLOTL
from llmtrain_operator.recipes.counterpart import Counterpart
from llmtrain_operator.recipes.flat import nested
from llmtrain_operator.recipes.table import Devices
from llmtrain_operator.recipes.translate import Translation, translate
from llmtrain_trainer.config.tables.row_expressions import environment, template_of

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


OWN_PROMPT = {
    "field_instruction": "q",
    "field_output": "a",
    "format": "[Q] {instruction} [A]",
    "no_input_format": "[Q] {instruction} [A]",
}


def translated(devices: Devices | None = None, **changes: Any) -> Translation:
    recipe = {key: value for key, value in (RECIPE | changes).items() if value != "absent"}
    return translate(AXOLOTL, recipe, name="job", devices=devices or Devices(), beside=None)


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
        {"source": "hf://acme/instructions", **nested(ALPACA)},
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
            {"path": "acme/c", "type": OWN_PROMPT},
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
        ({"val_set_size": 200}, "val_set_size", Counterpart.CANNOT, "train[:200]"),
        ({"train_on_inputs": True}, "train_on_inputs", Counterpart.CANNOT, "dataset[].template"),
        ({"train_on_inputs": False}, "train_on_inputs", Counterpart.SAME, ""),
        ({"flash_attention": True}, "flash_attention", Counterpart.SAME, "kernel"),
        ({"wandb_entity": "me"}, "wandb_entity", Counterpart.NO_EFFECT, "logs"),
        ({"plugins": ["axolotl.integrations.liger.LigerPlugin"]}, "plugins", Counterpart.NO_EFFECT, "kernels"),
        ({"plugins": ["my.Own"]}, "plugins", Counterpart.CANNOT, "my.Own"),
        ({"chat_template": "no_such"}, "chat_template", Counterpart.DIFFERS, "tokenizer's own"),
        ({"trl": {"num_generations": 8}}, "trl.num_generations", Counterpart.CANNOT, "generated answers"),
        ({"lora_r": "many"}, "lora_r", Counterpart.CANNOT, "'many' is not a number"),
        ({"a_new_key": 1}, "a_new_key", Counterpart.CANNOT, "does not know"),
        ({"load_in_4bit": False}, "load_in_4bit", Counterpart.NO_EFFECT, "off"),
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
    found = translated(val_set_size="absent", test_datasets=[{"path": "./held.jsonl", "type": "completion", "split": "test"}])
    assert found.manifest["spec"]["evaluation"] == {"dataset": [{"source": "file://./held.jsonl", "format": "text", "split": "test"}]}
    assert outcomes(found)["test_datasets[0].path"][0] is Counterpart.MAPS


@pytest.mark.parametrize("order", [1, -1])
def test_all_linear_layers_win_over_those_that_are_named(order: int) -> None:
    keys = [("lora_target_linear", True), ("lora_target_modules", ["q_proj"])][::order]
    recipe = {key: value for key, value in RECIPE.items() if key != "lora_target_linear"} | dict(keys)
    found = translate(AXOLOTL, recipe, name="job", devices=Devices(), beside=None)
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


def at(found: Translation, path: str) -> Any:
    """A value of the spec, None where it is not written."""
    where: Any = found.manifest["spec"]
    for name in path.split("."):
        where = where[int(name)] if name.isdigit() else where.get(name)
        if where is None:
            return None
    return where


ONE = [{"path": "acme/a", "type": "chat_template"}]
TWO = [*ONE, {"path": "acme/b", "type": "chat_template"}]


@pytest.mark.parametrize(
    ("changes", "path", "value"),
    [
        ({"datasets": TWO}, "mixing", "concat"),
        ({"datasets": ONE}, "mixing", None),
        ({"datasets": TWO, "streaming": True, "max_steps": 9}, "mixing", None),
        ({"peft_use_dora": True, "adapter": "lora"}, "peft.method", "dora"),
        ({"peft_use_rslora": True, "adapter": "qlora"}, "peft.method", "rslora"),
        ({"peft_use_rslora": True, "adapter": None}, "peft", None),
        ({"bf16": False}, "training.precision", "fp32"),
        ({"bf16": False, "bfloat16": True}, "training.precision", "bf16"),
        ({"bf16": False, "fp16": True}, "training.precision", None),
        ({"warmup_ratio": "absent"}, "training.schedule.warmupRatio", 0.03),
        ({"warmup_ratio": "absent", "warmup_steps": 0}, "training.schedule.warmupSteps", 0),
        ({"warmup_steps": 0}, "training.schedule", {"name": "cosine", "warmupRatio": 0.1}),
        ({"warmup_steps": 0.05, "warmup_ratio": "absent"}, "training.schedule.warmupRatio", 0.05),
        ({"lr_scheduler": "constant"}, "training.schedule", {"name": "constant"}),
        ({"lr_scheduler": "constant_with_warmup"}, "training.schedule", {"name": "constant", "warmupRatio": 0.1}),
        ({"lr_scheduler": "constant", "cosine_min_lr_ratio": 0.1}, "training.schedule", {"name": "constant"}),
        ({"lr_scheduler_kwargs": {"min_lr": 2e-5}}, "training.schedule.minRatio", pytest.approx(0.1)),
        ({"max_steps": -1}, "training.epochs", 3.0),
        ({"max_steps": -1}, "training.maxSteps", None),
        ({"val_set_size": 0}, "evaluation", None),
        ({"val_set_size": 500, "datasets": ONE}, "dataset.0.split", "train[500:]"),
        ({"val_set_size": 500, "datasets": ONE}, "evaluation.dataset.0.split", "train[:500]"),
        ({"val_set_size": 0, "eval_steps": 10}, "evaluation", None),
        ({"fsdp": "shard_grad_op auto_wrap"}, "parallelism", {"zeroStage": 2, "engine": "deepspeed"}),
        ({"fsdp_config": {"sharding_strategy": "SHARD_GRAD_OP"}}, "parallelism.zeroStage", 2),
        ({"fsdp": ["no_shard"]}, "parallelism.zeroStage", 0),
        ({"deepspeed": "configs/zero3_cpuoffload.json"}, "parallelism.offload", {"optimizer": "cpu", "parameters": "cpu"}),
        ({"deepspeed": {"zero_optimization": {"stage": 1}}}, "parallelism.zeroStage", 1),
        ({"gradient_checkpointing": False, "fsdp_config": {"activation_checkpointing": True}}, "training.activationCheckpointing", "full"),
        (
            {"lora_target_linear": False, "lora_target_modules": r"layers\.\d{1,2}\.(q|k)_proj"},
            "peft.targetModules.0",
            r"layers\.\d{1,2}\.(q|k)_proj",
        ),
        ({"lora_target_linear": False, "lora_target_modules": "q_proj, k_proj"}, "peft.targetModules", ["q_proj", "k_proj"]),
        ({"default_system_message": "Be brief.", "datasets": [{"path": "a/b", "type": "completion"}]}, "dataset.0.system", None),
        ({"datasets": [{"path": "a/b", "type": "alpaca"}]}, "tokenizer.chatTemplate", "alpaca"),
        ({"datasets": [{"path": "a/b", "type": "alpaca"}]}, "dataset.0.format", "alpaca"),
        ({"datasets": [{"path": "a/b", "type": "alpaca"}], "chat_template": "llama3"}, "dataset.0.format", "promptCompletion"),
        ({"attn_implementation": "eager"}, "model.attention", "eager"),
        ({"datasets": [{"path": "a/b", "type": "alpaca", "shards": 10}]}, "dataset.0.split", "train[0%:10%]"),
    ],
)
def test_keys_that_depend_on_each_other(changes: dict[str, Any], path: str, value: Any) -> None:
    assert at(translated(**changes), path) == value


@pytest.mark.parametrize(
    ("entry", "sources"),
    [
        ({"path": "json", "data_files": ["a.json", "b.json"]}, ["file://./a.json", "file://./b.json"]),
        ({"path": "acme/r", "data_files": ["a.json", "./b.json"]}, ["hf://acme/r/a.json", "file://./b.json"]),
        ({"path": "hf://datasets/acme/r", "data_files": "a.json"}, ["hf://acme/r/a.json"]),
        ({"path": "s3://bucket/r/", "data_files": "a.json"}, ["s3://bucket/r/a.json"]),
        ({"path": "./rows", "data_files": "a.json"}, ["file://./a.json"]),
        ({"path": "acme/r", "data_files": {"train": ["a.json", "b.json"], "test": "c.json"}}, ["hf://acme/r/a.json", "hf://acme/r/b.json"]),
        ({"path": "acme/r", "data_files": {"train": "a.json", "test": "c.json"}, "split": "test[:9]"}, ["hf://acme/r/c.json"]),
    ],
)
def test_every_file_of_an_entry_is_kept(entry: dict[str, Any], sources: list[str]) -> None:
    found = translated(datasets=[entry | {"type": "completion"}])
    assert [each["source"] for each in found.manifest["spec"]["dataset"]] == sources
    assert at(found, "mixing") == ("concat" if len(sources) > 1 else None)


def test_subsets_and_splits_that_are_joined_are_entries_of_their_own() -> None:
    entry = {"path": "a/b", "type": "completion", "name": ["de", "en"], "split": "train+test"}
    found = translated(datasets=[entry]).manifest["spec"]["dataset"]
    assert [(each["subset"], each.get("split")) for each in found] == [("de", None), ("de", "test"), ("en", None), ("en", "test")]


@pytest.mark.parametrize(
    ("written", "row", "prompt"),
    [
        ({}, {"instruction": "Add.", "input": "1 2"}, "Add. 1 2 "),
        ({}, {"instruction": "Add."}, "Add. "),
        ({"format": "Q: {instruction}\n{input}\nA:", "no_input_format": "Q: {instruction}\nA:"}, {"instruction": "Hi"}, "Q: Hi\nA:"),
        ({"system_prompt": "Be kind.", "system_format": "<{system}>\n"}, {"instruction": "Hi"}, "<Be kind.>\nHi "),
        ({"system_prompt": "Be kind.", "field_system": "who"}, {"instruction": "Hi", "who": "You. "}, "You. Hi "),
        ({"system_prompt": "Be kind. ", "field_system": "who"}, {"instruction": "Hi", "who": None}, "Be kind. Hi "),
        ({"field_instruction": "q", "no_input_format": "{{{instruction}}} {{% x"}, {"q": "Hi"}, "{Hi} {% x"),
    ],
)
def test_an_own_prompt_writes_what_axolotl_writes(written: dict[str, str], row: dict[str, Any], prompt: str) -> None:
    entry = translated(datasets=[{"path": "a/b", "type": {"field_output": "output", **written}}]).manifest["spec"]["dataset"][0]
    assert template_of(environment(), entry["template"]["prompt"]).render(row) == prompt


@pytest.mark.parametrize(
    ("given", "beginning"), [("1 2", "an instruction that describes a task, paired"), ("", "an instruction that describes a task. Write")]
)
def test_alpacas_prompt_under_a_chat_template_is_its_own(given: str, beginning: str) -> None:
    text = template_of(environment(), ALPACA["template.prompt"]).render({"instruction": "Add.", "input": given})
    assert text.startswith(f"Below is {beginning}") and text.endswith("\n\n### Response:\n")
    assert text.count("### Input:\n1 2") == bool(given)


@pytest.mark.parametrize(
    ("changes", "key", "outcome", "says"),
    [
        ({"rl": False}, "rl", Counterpart.NO_EFFECT, "off"),
        ({"skip_prepare_dataset": False}, "skip_prepare_dataset", Counterpart.NO_EFFECT, "off"),
        ({"tokens": []}, "tokens", Counterpart.SAME, "empty"),
        ({"special_tokens": {}}, "special_tokens", Counterpart.SAME, "empty"),
        ({"peft_use_rslora": True, "adapter": "absent"}, "peft_use_rslora", Counterpart.NO_EFFECT, "all weights"),
        ({"adapter": "absent"}, "lora_r", Counterpart.NO_EFFECT, "all weights"),
        ({"peft_use_rslora": True, "peft_use_dora": True}, "peft_use_rslora", Counterpart.CANNOT, "dora is on too"),
        ({"max_steps": 5}, "num_epochs", Counterpart.NO_EFFECT, "maxSteps counts"),
        (
            {"default_system_message": "x", "datasets": [{"path": "a/b", "type": "completion"}]},
            "default_system_message",
            Counterpart.NO_EFFECT,
            "no dataset",
        ),
        ({"fsdp": ["full_shard", "offload"]}, "fsdp", Counterpart.DIFFERS, "parallelism.offload"),
        ({"deepspeed": "zero3_offload.json"}, "deepspeed", Counterpart.DIFFERS, "offload"),
        ({"fsdp_config": {"reshard_after_forward": False}}, "fsdp_config.reshard_after_forward", Counterpart.DIFFERS, "less memory"),
        ({"bf16": False, "fp16": True}, "fp16", Counterpart.CANNOT, "stays bf16"),
        ({"bf16": False, "fp16": True}, "bf16", Counterpart.NO_EFFECT, "fp16 says it"),
        ({"val_set_size": 0, "eval_steps": 10}, "eval_steps", Counterpart.NO_EFFECT, "nothing is evaluated"),
        ({"val_set_size": 500, "datasets": ONE}, "val_set_size", Counterpart.DIFFERS, "first 500 rows"),
    ],
)
def test_what_a_key_becomes_beside_others_is_told(changes: dict[str, Any], key: str, outcome: Counterpart, says: str) -> None:
    found = outcomes(translated(**changes))[key]
    assert found[0] is outcome and says in found[1]


@pytest.mark.parametrize(
    ("entry", "key", "outcome"),
    [
        ({"message_property_mappings": {"role": "from", "content": "value"}}, "message_property_mappings.role", Counterpart.MAPS),
        ({"message_property_mappings": {"role": "speaker", "content": "text"}}, "message_property_mappings.role", Counterpart.CANNOT),
        ({"message_property_mappings": {"role": "from"}}, "message_property_mappings.role", Counterpart.CANNOT),
        ({"message_field_role": "author"}, "message_field_role", Counterpart.CANNOT),
        ({"message_property_mappings": "role"}, "message_property_mappings", Counterpart.CANNOT),
        ({"roles": None}, "roles", Counterpart.SAME),
        ({"type": "alpaca_chat.load_qa"}, "type", Counterpart.DIFFERS),
        ({"path": "gs://bucket/rows"}, "path", Counterpart.CANNOT),
    ],
)
def test_a_key_of_a_dataset_tells_what_became_of_it(entry: dict[str, Any], key: str, outcome: Counterpart) -> None:
    found = translated(datasets=[{"path": "a/b", "type": "chat_template"} | entry])
    assert outcome in [line.told.outcome for line in found.lines if line.key == f"datasets[0].{key}"]


def test_pretraining_takes_the_defaults_of_its_trainer_and_is_valid() -> None:
    found = translated(
        datasets="absent",
        adapter="absent",
        val_set_size="absent",
        pretraining_dataset=[{"path": "acme/web", "text_column": "body"}],
        max_steps=10,
    )
    parse_object(found.manifest | {"spec": found.manifest["spec"] | {"checkpoint": {"destination": "file:///x"}}})
    assert at(found, "training.optimizer") == {"name": "adamw", "learningRate": 2e-4, "weightDecay": 0.0, "betas": [0.9, 0.999]}
    assert at(found, "training.schedule.minRatio") == 0.0 and at(found, "training.packing") is None
    assert at(found, "dataset.0.columns.text") == "body"
