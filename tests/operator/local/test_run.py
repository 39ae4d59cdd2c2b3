"""A whole local run, as a user has it: stopped by Ctrl-C, gone on with, listed, verified, reported."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmtrain_trainer.run_dir.layout import read_rows

pytestmark = pytest.mark.processes

PATIENCE = 240.0

MANIFEST = """\
apiVersion: llmtrain.io/v1alpha1
kind: LLMTrainJob
metadata: {name: small}
spec:
  model:
    config:
      model_type: llama
      hidden_size: 32
      intermediate_size: 64
      num_hidden_layers: 2
      num_attention_heads: 2
      num_key_value_heads: 2
      vocab_size: 300
      max_position_embeddings: 32
  tokenizer: {train: {vocabSize: 300}}
  dataset: [{source: file://./text.jsonl}]
  training: {globalBatchSize: 4, microBatchSize: 2, sequenceLength: 32, maxSteps: 400000, precision: fp32}
  checkpoint: {destination: file://./checkpoints, every: {steps: 1000000}}
  resources: {nodes: 2, procsPerNode: 1}
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "job.yaml").write_text(MANIFEST)
    with (tmp_path / "text.jsonl").open("w") as file:
        for number in range(400):
            file.write(json.dumps({"text": f"The square of {number} is {number * number}, and its double is {2 * number}."}) + "\n")
    return tmp_path


def llmtrain(place: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = os.environ | {"XDG_CACHE_HOME": str(place / "cache")}
    command = [sys.executable, "-c", "from llmtrain_operator.cli import main; main()", *arguments]
    return subprocess.Popen(command, cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finished(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=PATIENCE)
    return out


def steps(place: Path) -> list[int]:
    return [row["step"] for row in read_rows(place / "out" / "runs" / "small" / "node-0" / "metrics.jsonl")]


def test_a_run_is_saved_by_ctrl_c_and_goes_on_where_it_was(place: Path) -> None:
    run = llmtrain(place, "run", "-f", "job.yaml")
    deadline = time.monotonic() + PATIENCE
    while len(steps(place)) < 3 and run.poll() is None:
        assert time.monotonic() < deadline, "no step was done"
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    said = finished(run)
    assert run.returncode == 75, said
    assert "Saving a checkpoint, then stopping." in said
    assert "The same command resumes from there." in said
    saved = steps(place)[-1]

    listed = json.loads(finished(llmtrain(place, "checkpoints", "verify", "-f", "job.yaml", "-o", "json")))
    assert [(row["step"], row["attempt"], row["verified"]) for row in listed] == [(saved, 1, True)]

    again = llmtrain(place, "run", "-f", "job.yaml", "--nodes", "1", "--set", f"spec.training.maxSteps={saved + 5}")
    said = finished(again)
    assert again.returncode == 0, said
    assert steps(place)[-5:] == list(range(saved + 1, saved + 6))
    home = place / "out" / "runs" / "small"
    assert json.loads((home / "node-0" / "config.json").read_text())["job"]["attempt"] == 2
    assert (home / "node-0" / "export" / "full" / "model.safetensors").exists()
    assert "<svg" in (home / "report" / "report.html").read_text()
    assert f"report    {home / 'report' / 'report.html'}" in said
