"""Recipes of other trainers: each of their names leads to a field here, and what the refusals say makes a manifest of them."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from llmtrain_operator.manifest.meant import fitting
from llmtrain_operator.manifest.parse import ManifestError, manifest_schema, parse_object
from llmtrain_operator.manifest.peers import FIELDS, INSIDE, TRANSLATED
from llmtrain_operator.manifest.schema import below

ITEM = ("spec", "dataset", 0)
SECTIONS = {"dataset": ITEM, "optimizer": ("spec", "training", "optimizer"), "schedule": ("spec", "training", "schedule")}

AXOLOTL = """
base_model: NousResearch/Llama-3.2-1B
load_in_4bit: true
sequence_len: 2048
sample_packing: true
gradient_accumulation_steps: 4
micro_batch_size: 2
num_epochs: 1
optimizer: adamw_bnb_8bit
lr_scheduler: cosine
learning_rate: 2e-4
bf16: auto
tf32: true
gradient_checkpointing: true
logging_steps: 1
attn_implementation: sdpa
warmup_ratio: 0.1
evals_per_epoch: 1
saves_per_epoch: 1
weight_decay: 0.0
val_set_size: 0.05
output_dir: ./outputs/lora-out
adapter: lora
lora_r: 16
lora_alpha: 32
lora_dropout: 0.05
lora_target_linear: true
wandb_project:
special_tokens: {pad_token: <|end|>}
seed: 42
"""
LLAMA_FACTORY = """
model_name_or_path: meta-llama/Meta-Llama-3-8B-Instruct
trust_remote_code: true
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all
cutoff_len: 2048
max_steps: 100
overwrite_cache: true
preprocessing_num_workers: 16
output_dir: saves/llama3-8b/lora/sft
logging_steps: 10
save_steps: 500
plot_loss: true
report_to: none
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 1.0e-4
lr_scheduler_type: cosine
bf16: true
ddp_timeout: 180000000
template: llama3
"""
TRL = """
model_name_or_path: Qwen/Qwen2-0.5B
max_length: 1024
per_device_train_batch_size: 2
num_train_epochs: 1.0
learning_rate: 2.0e-5
gradient_checkpointing: true
packing: true
max_grad_norm: 1.0
output_dir: Qwen2-0.5B-SFT
save_total_limit: 3
attn_implementation: flash_attention_2
use_peft: true
lora_r: 32
adam_epsilon: 1.0e-8
"""


@pytest.mark.parametrize("recipe", [AXOLOTL, LLAMA_FACTORY, TRL], ids=["axolotl", "llama-factory", "trl"])
def test_what_the_refusals_say_makes_a_manifest_of_a_recipe(recipe: str) -> None:
    """The data and the global batch are the only things that nobody can translate."""
    spec = {
        **yaml.safe_load(recipe.replace("2e-4", "0.0002")),
        "dataset": [{"path": "data/chat.jsonl", "type": "chat_template"}],
        "task": "sft",
        "resources": {"gpusPerNode": 1, "gpu": "H100"},
    }
    spec = {name: value for name, value in spec.items() if value is not None} | {"training": {"globalBatchSize": 8}}
    manifest = {"apiVersion": "llmtrain.io/v1alpha1", "kind": "LLMTrainJob", "metadata": {"name": "recipe"}, "spec": spec}
    for _ in range(3):
        if not (found := problems(manifest)):
            break
        for field, way_out in found:
            follow(manifest, field, way_out)
    job = parse_object(manifest)
    assert job.spec.model.source == f"hf://{yaml.safe_load(recipe).get('base_model') or yaml.safe_load(recipe)['model_name_or_path']}"
    assert job.spec.checkpoint is not None and job.spec.checkpoint.destination.startswith("file://")
    assert job.spec.peft is not None and job.spec.dataset[0].format == "messages"


def problems(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    try:
        parse_object(manifest)
    except ManifestError as error:
        return [(problem.field, problem.way_out) for problem in error.problems]
    return []


def follow(manifest: dict[str, Any], field: str, way_out: str) -> None:
    """Do what is said: write the value under its field, in an absolute path where one beside the manifest is meant, or leave it out."""
    steps = [int(step) if step.isdigit() else step for step in re.findall(r"\w+", field)]
    where: Any = manifest
    for step in steps[:-1]:
        where = where[step]
    if said := re.match(r"Write (file://)\./(\S+)", way_out):
        where[steps[-1]] = f"{said[1]}/here/{said[2]}"
        return
    where.pop(steps[-1], None)
    if said := re.match(r"Write (spec\.[\w.\[\]]+)(?:, such as|:) (.+?)$", way_out):
        put(manifest, said[1], yaml.safe_load(said[2].replace("file://./", "file:///here/")))
    elif said := re.match(r"Write (\w+): (.+)$", way_out):
        where[said[1]] = yaml.safe_load(said[2])
    else:
        assert way_out.startswith(("Leave it out", "Write spec.evaluation.everySteps")), way_out


def put(manifest: dict[str, Any], path: str, value: Any) -> None:
    *sections, last = [int(step) if step.isdigit() else step for step in re.findall(r"\w+", path)]
    where: Any = manifest
    for step in sections:
        where = where[step] if isinstance(step, int) else where.setdefault(step, {})
    where[last] = value


def test_every_name_leads_to_a_field_that_exists() -> None:
    schema = manifest_schema()
    assert [field for field in FIELDS.values() if below(schema, tuple(field.split("."))) is None] == []
    for section, names in INSIDE.items():
        place = SECTIONS.get(section, ("spec", section))
        assert [field for field in names.values() if below(schema, (*place, *field.split("."))) is None] == []


def test_every_translation_is_a_value_that_the_field_takes() -> None:
    schema = manifest_schema()
    for field, words in TRANSLATED.items():
        takes = below(schema, (*ITEM, field) if field == "format" else tuple(field.split(".")))
        assert takes is not None
        assert [word for word, value in words.items() if value is not None and fitting(value, takes) is None] == []


@pytest.mark.parametrize(
    ("field", "value", "way_out"),
    [
        ("spec.dataset[0].path", "train.jsonl", "Write spec.dataset[0].source: file://./train.jsonl"),
        ("spec.dataset[0].path", "tatsu-lab/alpaca", "Write spec.dataset[0].source: hf://tatsu-lab/alpaca"),
        ("spec.dataset[0].data_files", "~/rows/*.jsonl", "Write spec.dataset[0].source: file://~/rows/*.jsonl"),
        ("spec.dataset[0].type", "openai", "Write spec.dataset[0].format: messages"),
        ("spec.dataset[0].field_messages", "conversations", "Write spec.dataset[0].columns.messages: conversations"),
        ("spec.dataset[0].name", "en", "Write spec.dataset[0].subset: en"),
        ("spec.datasets", [{"source": "hf://a/b"}], "Write spec.dataset"),
        ("spec.max_steps", 10, "Write spec.training.maxSteps: 10"),
        ("spec.training.learning_rate", 0.001, "Write spec.training.optimizer.learningRate: 0.001"),
        ("spec.training.steps", 10, "Write spec.training.maxSteps: 10"),
        ("spec.checkpoint.save_steps", 10, "Write spec.checkpoint.every.steps: 10"),
        ("spec.checkpoint.dir", "out/ck", "Write spec.checkpoint.destination: file://./out/ck"),
        ("spec.output.dir", "out", "Write spec.output.destination: file://./out"),
        ("spec.tokenizer.path", "./tok", "Write spec.tokenizer.source: file://./tok"),
        ("spec.peft.r", 8, "Write spec.peft.rank: 8"),
        ("spec.finetuning_type", "full", "Leave it out"),
        ("spec.num_gpus", 8, "Write spec.resources.gpusPerNode: 8"),
        ("spec.resources.replicas", 2, "Write spec.resources.nodes: 2"),
    ],
)
def test_a_name_of_another_trainer_is_told_with_field_and_value(field: str, value: Any, way_out: str) -> None:
    manifest: dict[str, Any] = {"apiVersion": "llmtrain.io/v1alpha1", "kind": "LLMTrainJob", "metadata": {"name": "small"}}
    manifest["spec"] = {
        "model": {"source": "hf://acme/tiny"},
        "dataset": [{"source": "hf://acme/books"}],
        "training": {"globalBatchSize": 8, "sequenceLength": 128, "maxSteps": 100},
    }
    put(manifest, field, value)
    assert (field, way_out) in problems(manifest)
