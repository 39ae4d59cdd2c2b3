"""What a manifest names on this machine and is not there: told by validate and plan, refused by run before anything starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmtrain_operator.cli.app import invoke

SHAPE = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 512,
}
JOB = """\
apiVersion: llmtrain.io/v1alpha1
kind: LLMTrainJob
metadata: {name: small}
spec:
  model:
    config: {model_type: llama, hidden_size: 64, intermediate_size: 128, num_hidden_layers: 2, num_attention_heads: 4, vocab_size: 512}
  tokenizer: {source: file://./tok}
  dataset: [{source: file://./text.jsonl}]
  training: {globalBatchSize: 8, sequenceLength: 64, maxSteps: 10, precision: fp32}
  checkpoint: {destination: file://./ck}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory where everything is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.yaml").write_text(JOB)
    (tmp_path / "text.jsonl").write_text('{"text": "one"}\n')
    (tmp_path / "tok").mkdir()
    (tmp_path / "tok" / "tokenizer.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    (tmp_path / "nothing.jsonl").touch()
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "gone.jsonl")
    (tmp_path / "a[1].jsonl").write_text('{"text": "one"}\n')
    return tmp_path


MISSING = [
    ("spec.dataset[0].source=file://./none.jsonl", "there is no such file on this machine"),
    ("spec.dataset[0].source=file:///data/none.jsonl", "there is no such file on this machine"),
    ("spec.dataset[0].source=file://./*.csv", "no file on this machine matches it"),
    ("spec.dataset[0].source=file://./empty", "it is empty"),
    ("spec.dataset[0].source=file://./nothing.jsonl", "the file is empty. Name files that hold data"),
    ("spec.dataset[0].source=file://./link.jsonl", "link.jsonl: it is a link to a file that does not exist"),
    ("spec.evaluation={dataset: [{source: file://./held.jsonl}]}", "there is no such file on this machine"),
    ("spec.tokenizer.source=file://./none", "there is no such file on this machine"),
    ("spec.tokenizer.source=file://./empty", "it is empty"),
    ("spec.checkpoint.destination=file://./text.jsonl/ck", "text.jsonl is a file, and a destination must be a directory"),
    ("spec.output={destination: 'file://./text.jsonl'}", "text.jsonl is a file, and a destination must be a directory"),
]


@pytest.mark.parametrize(("change", "says"), MISSING, ids=[change for change, _ in MISSING])
def test_what_is_not_here_is_told_by_plan_and_refused_by_run(
    change: str, says: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("validate", "plan"):
        assert invoke([command, "-f", "job.yaml", "--set", change]) == 0
        assert f"Not here: {change.partition('=')[0].partition('{')[0]}" in (said := capsys.readouterr().err) and says in said
        assert "The files of pods cannot be checked from here" in said
    assert invoke(["run", "-f", "job.yaml", "--set", change]) == 2
    assert says in capsys.readouterr().err
    assert not (here / "out").exists()


@pytest.mark.parametrize("source", ["text.jsonl", "*.jsonl", "a[1].jsonl", "tok", "**/tokenizer.json"])
def test_what_is_here_is_not_spoken_of(source: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["validate", "-f", "job.yaml", "--set", f"spec.dataset[0].source=file://./{source}"]) == 0
    assert capsys.readouterr().err == ""


def test_weights_that_are_not_read_are_refused_by_the_plan(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "model").mkdir()
    (here / "model" / "config.json").write_text(json.dumps(SHAPE))
    (here / "model" / "tokenizer.json").write_text("{}")
    (here / "model" / "pytorch_model.bin").write_text("weights")
    change = ["--set", "spec.model={source: file://./model}", "--set", "spec.tokenizer=null"]
    for command in ("validate", "plan", "run"):
        assert invoke([command, "-f", "job.yaml", *change]) == 2
        assert "its weights are in pytorch_model.bin, but only *.safetensors are read" in capsys.readouterr().err
    assert invoke(["validate", "-f", "job.yaml", *change, "--set", "spec.model.init=random"]) == 0
    (here / "model" / "model.safetensors").write_text("weights")
    assert invoke(["validate", "-f", "job.yaml", *change]) == 0


def test_a_model_without_its_tokenizer_is_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "model").mkdir()
    (here / "model" / "config.json").write_text(json.dumps(SHAPE))
    assert invoke(["plan", "-f", "job.yaml", "--set", "spec.model={source: file://./model}", "--set", "spec.tokenizer=null"]) == 0
    assert "it has no tokenizer, such as tokenizer.json, and tokenizer.source is not set" in capsys.readouterr().err
