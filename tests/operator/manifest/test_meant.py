"""A value that is nearly right is refused with the value that was meant, which is then taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmtrain_operator.cli.manifest import typed_uri, with_absolute_paths
from llmtrain_operator.manifest.numerals import meanings
from llmtrain_operator.manifest.parse import manifest_schema
from llmtrain_operator.manifest.schema import below
from llmtrain_operator.manifest.suggestions import missing, wrong

ADDRESSES = [
    ("./m", "file://./m"),
    ("../m", "file://../m"),
    ("~/m", "file://~/m"),
    ("file:m", "file://./m"),
    ("file:./m", "file://./m"),
    ("file:/m", "file:///m"),
    ("file://m/x.jsonl", "file://./m/x.jsonl"),
    ("data/*.jsonl", "file://./data/*.jsonl"),
    ("train.jsonl", "file://./train.jsonl"),
    ("a/b.jsonl", "file://./a/b.jsonl"),
    ("/abs/x", "file:///abs/x"),
    ("owner/name", "hf://owner/name"),
    ("hf:owner/name", "hf://owner/name"),
    ("https://huggingface.co/datasets/owner/name/tree/main", "hf://owner/name"),
    ("S3://bucket/x", "s3://bucket/x"),
    ("s3a://bucket/x", "s3://bucket/x"),
    ("https://bucket.s3.eu-west-1.amazonaws.com/x.jsonl", "s3://bucket/x.jsonl"),
    ("pvc:claim/x", "pvc://claim/x"),
    (" s3://bucket/x ", "s3://bucket/x"),
]
NUMBERS = [
    ("010", 10),
    ("1,000", 1000),
    ("1 000", 1000),
    ("1_000", 1000),
    ("10k", 10_000),
    ("1.5k", 1500),
    ("1e3", 1000),
    ("0,1", 0.1),
    ("1,5e-4", 0.00015),
    ("5%", 0.05),
    ("'2e-5'", 2e-5),
    ("y", True),
    ("Off", False),
]


def way_out(field: str, value: Any) -> str:
    path: list[str | int] = []
    for step in field.split("."):
        path += [step.removesuffix("[]"), 0] if step.endswith("[]") else [step]
    schema = below(manifest_schema(), tuple(path))
    assert schema is not None
    return wrong(value, schema, str(path[-1]))[1]


@pytest.mark.parametrize(("given", "meant"), ADDRESSES, ids=[given for given, _ in ADDRESSES])
def test_an_address_of_another_form_leads_to_the_right_one(given: str, meant: str) -> None:
    said = way_out("spec.dataset[].source", given)
    assert said.removeprefix("Write ").split(" for ")[0] == meant
    at = str(with_absolute_paths(meant, Path("/here")))
    assert at.startswith(("file:///", "hf://", "s3://", "pvc://"))


def test_a_word_is_a_directory_where_no_repository_can_be_meant() -> None:
    assert way_out("spec.checkpoint.destination", "FILE://./out").startswith("Write file://./out for a path relative")
    assert way_out("spec.checkpoint.destination", "FILE:///out") == "Write file:///out"
    assert way_out("spec.checkpoint.destination", "out").startswith("Write file://./out ")
    assert way_out("spec.checkpoint.destination", "saves/run-1").startswith("Write file://./saves/run-1 ")
    assert way_out("spec.model.source", "llama") == "Write it like hf://owner/name"


@pytest.mark.parametrize(("given", "meant"), NUMBERS, ids=[given for given, _ in NUMBERS])
def test_a_number_as_people_write_it_is_understood(given: str, meant: Any) -> None:
    assert next(meanings(given)) == meant


@pytest.mark.parametrize(
    ("field", "given", "said"),
    [
        ("spec.training.maxSteps", "010", "Write 10"),
        ("spec.training.maxSteps", "1,000", "Write maxSteps: 1000"),
        ("spec.training.maxSteps", "10", "Write 10 without quotes"),
        ("spec.training.maxSteps", 1e3, "Write maxSteps: 1000"),
        ("spec.training.optimizer.learningRate", "1e-4", "Write 0.0001 without quotes"),
        ("spec.training.packing", "yes", "Write true without quotes"),
        ("spec.training.packing", "n", "Write packing: false"),
        ("spec.training.packing", 0, "Write packing: false"),
    ],
)
def test_the_way_out_names_the_number_that_was_meant(field: str, given: Any, said: str) -> None:
    assert way_out(field, given) == said


def test_a_path_of_the_home_directory_is_found_in_manifest_and_option(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    wanted = f"file://{tmp_path}/m"
    assert [with_absolute_paths(uri, Path("/here")) for uri in ("file://~/m", "file:///~/m")] == [wanted, wanted]
    assert [typed_uri(text) for text in ("~/m", "./m", f"{tmp_path}/m", "file://./m")] == [wanted] * 4
    assert with_absolute_paths("file://./a/~b", Path("/here")) == "file:///here/a/~b"
    assert [typed_uri(text) for text in ("s3://b/x", "hf://a/b", "out")] == ["s3://b/x", "hf://a/b", "out"]


@pytest.mark.parametrize(
    ("field", "given", "said"),
    [
        ("spec.model", "Qwen/Qwen3-0.6B", "Write model: {source: 'hf://Qwen/Qwen3-0.6B'}"),
        ("spec.tokenizer", "./tok", "Write tokenizer: {source: 'file://./tok'}"),
        ("spec.checkpoint", "~/ck", "Write checkpoint: {destination: 'file://~/ck'}"),
        ("spec.dataset", "text.jsonl", "Write dataset: [{source: 'file://./text.jsonl'}]"),
        ("spec.dataset", "a.jsonl, b.jsonl", "Write dataset: [{source: 'file://./a.jsonl'}, {source: 'file://./b.jsonl'}]"),
        ("spec.training.optimizer.betas", "0.9, 0.95", "Write betas: [0.9, 0.95]"),
        ("spec.training.optimizer.betas", 0.9, "Write betas: [0.9, 0.95]"),
        ("spec.peft.targetModules", "q_proj,v_proj", "Write targetModules: [q_proj, v_proj]"),
        ("spec.peft", False, "Leave peft out"),
        (
            "spec.scheduling.env",
            [{"name": "NCCL_DEBUG", "value": "INFO"}, {"name": "N", "value": True}],
            "Write env: {NCCL_DEBUG: INFO, N: 'true'}",
        ),
        ("spec.scheduling.env", [{"NCCL_DEBUG": "INFO"}], "Write env: {NCCL_DEBUG: INFO}"),
        ("spec.scheduling.env", ["NCCL_DEBUG=INFO"], "Write env: {NCCL_DEBUG: INFO}"),
        ("spec.scheduling.env", ["NCCL_DEBUG"], "Remove the dash or the brackets: env is one section"),
        ("spec.scheduling.queue", None, "Write queue: team-queue, or leave it out"),
        ("spec.evaluation", 0.1, "Write evaluation: {split: 0.1}"),
        ("spec.checkpoint.every.interval", "15min", "Write 15m"),
        ("spec.checkpoint.every.interval", 900, "Write interval: 900s, or another unit: m, h or d"),
        ("spec.model.source", "\u201cfile://$HOME/m\u201d", "Write file://~/m for a path in your home directory, or an absolute path"),
    ],
)
def test_a_section_or_a_list_in_short_is_told_whole(field: str, given: Any, said: str) -> None:
    assert way_out(field, given) == said


@pytest.mark.parametrize(
    ("field", "given", "said"),
    [
        ("spec.training.optimizer.learningRate", 0, "Write a number above 0, such as 0.0003"),
        ("spec.training.optimizer.betas[]", 1.0, "Write a number below 1"),
        ("spec.parallelism.offload", True, "Give fields of its own below offload: optimizer, parameters or path"),
    ],
)
def test_no_way_out_names_a_value_that_trains_badly_or_says_nothing(field: str, given: Any, said: str) -> None:
    assert way_out(field, given) == said


def test_an_item_that_a_list_lacks_is_asked_for_as_one() -> None:
    schema = below(manifest_schema(), ("spec", "training", "optimizer", "betas", 1))
    assert schema is not None
    assert missing(("spec", "training", "optimizer", "betas", 1), schema)[1].startswith("Give betas an item more, such as")


def test_an_item_of_a_list_is_told_as_one() -> None:
    schema = below(manifest_schema(), ("spec", "dataset", 0))
    assert schema is not None and wrong("text.jsonl", schema, "0")[1] == "Write - {source: 'file://./text.jsonl'}"
