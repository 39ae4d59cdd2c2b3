"""`llmtrain init`: what it writes is valid as it stands."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from llmtrain_operator.cli.app import invoke
from llmtrain_operator.cli.manifest import load_manifest

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
