"""`llmtrain init`: what it writes is valid as it stands."""

from __future__ import annotations

import inspect
from itertools import product
from pathlib import Path

import pytest

from llmtrain_operator.cli import starter
from llmtrain_operator.cli.app import invoke
from llmtrain_operator.cli.manifest import load_manifest

OPTIONS = [
    [],
    ["--name=team-a"],
    ["--task=sft"],
    ["--model=hf://owner/name"],
    ["--model=~/models/llama"],
    ["--data=s3://bucket/rows: 1 #.jsonl"],
    ["--data=./rows/*.jsonl"],
    ["--data=/rows/{a}.jsonl"],
    ["--model=hf://owner/name", "--lora"],
    ["--nodes=3"],
    ["--gpus-per-node=3"],
    ["--gpu=h100"],
    ["--gpu=T4", "--gpus-per-node=4"],
    ["--gpu=MI300X", "--nodes=2"],
]
WRONG = [
    (["--name=My Job"], "metadata.name is My Job"),
    (["--name=true"], None),
    (["--gpu=H9000"], "spec.resources.gpu is H9000"),
    (["--gpu=H100", "--gpus-per-node=0"], "leave one of them out"),
    (["--nodes=5000"], "spec.resources.nodes is 5000"),
    (["--model=owner/name"], "Write hf://owner/name"),
    (["--data=rows.jsonl"], "Write file://./rows.jsonl"),
    (["--lora"], "--model"),
]
CHOICES = [
    [f"--task={task}", *model, *gpus]
    for task, model, gpus in product(
        ("pretrain", "sft"),
        ([], ["--model=hf://owner/name"], ["--model=hf://owner/name", "--lora"]),
        ([], ["--nodes=2", "--gpus-per-node=8", "--gpu=A100-80GB"]),
    )
]


@pytest.mark.parametrize("choices", CHOICES, ids=" ".join)
def test_every_choice_gives_a_manifest_that_parses(choices: list[str], tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    assert invoke(["init", "-f", str(file), *choices]) == 0
    job = load_manifest(str(file))
    assert f"--task={job.spec.task}" in choices
    assert (job.spec.peft is not None) == ("--lora" in choices)
    assert (job.spec.resources.gpus_per_node == 8) == ("--gpus-per-node=8" in choices)


def test_from_scratch_it_can_be_planned_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "job.yaml"
    invoke(["init", "-f", str(file)])
    assert invoke(["plan", "-f", str(file)]) == 0
    assert "my-job" in capsys.readouterr().out


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_each_option_gives_a_manifest_that_can_be_planned(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("llmtrain_operator.sources.read_shape", lambda _: None)
    assert invoke(["init", "-f", str(tmp_path / "job.yaml"), *options]) == 0
    if not any(option.startswith("--model") for option in options):
        monkeypatch.undo()
    assert invoke(["plan", "-f", str(tmp_path / "job.yaml")]) == 0, capsys.readouterr().err


@pytest.mark.parametrize(("options", "says"), WRONG, ids=[" ".join(options) for options, _ in WRONG])
def test_an_option_that_makes_no_job_is_refused_and_nothing_is_written(
    options: list[str], says: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["init", "-f", str(tmp_path / "job.yaml"), *options]) == (2 if says else 0)
    assert (says or "") in capsys.readouterr().err
    assert (tmp_path / "job.yaml").exists() is (says is None)


def test_every_option_is_tried() -> None:
    tried = " ".join(" ".join(options) for options in [*OPTIONS, *(options for options, _ in WRONG)])
    names = [name.replace("_", "-") for name in inspect.signature(starter.init).parameters]
    assert [name for name in names if name not in ("file", "force") and f"--{name}" not in tried] == []


def test_two_manifests_of_a_directory_share_neither_name_nor_checkpoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["init", "-f", str(tmp_path / "small.yaml")]) == 0
    assert invoke(["init", "-f", str(tmp_path / "Large one.yaml")]) == 0
    jobs = [load_manifest(str(tmp_path / name)) for name in ("small.yaml", "Large one.yaml")]
    assert [job.metadata.name for job in jobs] == ["small", "large-one"]
    places = [job.spec.checkpoint and job.spec.checkpoint.destination for job in jobs]
    assert places == [f"file://{tmp_path}/checkpoints/{name}" for name in ("small", "large-one")]
    assert invoke(["init", "-f", str(tmp_path / "third.yaml"), "--name=small"]) == 2
    assert "small.yaml already has a job named small" in capsys.readouterr().err
    assert invoke(["init", "-f", str(tmp_path / "small.yaml"), "--force"]) == 0


def test_where_the_data_goes_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    invoke(["init", "-f", str(tmp_path / "job.yaml")])
    assert 'text.jsonl (rows of {"text": "..."}, one per line), then llmtrain plan' in capsys.readouterr().out


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["init", "-f", str(tmp_path / "none" / "job.yaml")]) == 2
    assert "cannot be written: No such file or directory" in capsys.readouterr().err
    assert invoke(["init", "-f", "-"]) == 0
    assert "kind: LLMTrainJob" in capsys.readouterr().out


def test_a_file_that_is_there_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("mine")
    assert invoke(["init", "-f", str(file)]) == 2
    assert file.read_text() == "mine"
    assert "--force" in capsys.readouterr().err
    assert invoke(["init", "-f", str(file), "--force"]) == 0


def test_an_adapter_without_a_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["init", "-f", str(tmp_path / "job.yaml"), "--lora"]) == 2
    assert "--model" in capsys.readouterr().err
