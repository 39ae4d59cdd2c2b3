"""`llmtrain plan`, `validate` and `run` before anything starts: exit codes and where the words go."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmtrain_operator.cli.app import invoke

SMALL = """\
apiVersion: llmtrain.io/v1alpha1
kind: LLMTrainJob
metadata: {name: small}
spec:
  model:
    config:
      {model_type: llama, hidden_size: 64, intermediate_size: 128, num_hidden_layers: 4, num_attention_heads: 4, vocab_size: 512}
  tokenizer: {train: {vocabSize: 512}}
  dataset: [{source: file://./text.jsonl}]
  training: {globalBatchSize: 8, sequenceLength: 64, maxSteps: 10, precision: fp32}
  parallelism: {tensor: 2}
  resources: {procsPerNode: 4}
"""
HUGE = [
    "--set=spec.model.config.hidden_size=16384",
    "--set=spec.model.config.intermediate_size=53248",
    "--set=spec.model.config.num_hidden_layers=126",
    "--set=spec.parallelism.tensor=1",
]


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.yaml").write_text(SMALL)
    (tmp_path / "text.jsonl").write_text('{"text": "one"}\n')
    return "job.yaml"


def test_a_plan_that_fits_exits_with_0_as_table_and_as_json(manifest: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["plan", "-f", manifest]) == 0
    assert "small" in capsys.readouterr().out
    assert invoke(["plan", "-f", manifest, "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["layout"]["data"] == 2


@pytest.mark.parametrize("command", ["plan", "validate", "run"])
def test_every_problem_is_a_line_on_stderr_and_the_code_is_2(command: str, manifest: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke([command, "-f", manifest, "--set", "spec.parallelism.tensor=3", "--set", "spec.training.globalBatchSize=7"]) == 2
    answer = capsys.readouterr()
    assert answer.out == ""
    assert "spec.parallelism.tensor is 3" in answer.err
    assert all(line.startswith("spec.") for line in answer.err.splitlines())


def test_a_plan_that_does_not_fit_exits_with_3(manifest: str, capsys: pytest.CaptureFixture[str]) -> None:
    gpus = "--set=spec.resources={nodes: 1, gpusPerNode: 8, gpu: H100-80GB}"
    assert invoke(["plan", "-f", manifest, gpus, *HUGE, "--set=spec.training.globalBatchSize=8"]) == 3
    assert capsys.readouterr().err == ""


def test_a_run_larger_than_the_machine_exits_with_3_and_starts_nothing(
    manifest: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert invoke(["run", "-f", manifest, *HUGE]) == 3
    assert "but this machine has" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_valid_manifest_is_told_so(manifest: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["validate", "-f", manifest]) == 0
    assert capsys.readouterr().out == "small is valid.\n"


def test_a_report_of_nothing_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["report", "--workdir", str(tmp_path)]) == 2
    assert "has no run" in capsys.readouterr().err


def test_checkpoints_want_a_manifest_or_a_store_and_not_both(manifest: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["checkpoints", "list"]) == 2
    assert invoke(["checkpoints", "list", "-f", manifest, "--destination", "file:///x"]) == 2
    assert invoke(["checkpoints", "list", "-f", manifest]) == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert last == "small keeps no checkpoints: spec.checkpoint is not set."
