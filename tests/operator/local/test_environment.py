"""Variables of the manifest on this machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

import yaml

from llmtrain_operator.local.environment import environment_here
from llmtrain_operator.local.trainer import TRAINER
from llmtrain_operator.manifest.parse import parse_manifest

JOB = """
apiVersion: llmtrain.io/v1alpha1
kind: LLMTrainJob
metadata: {name: job}
spec:
  model: {source: hf://acme/tiny}
  dataset: [{source: file:///data/books.txt}]
  training: {globalBatchSize: 8, sequenceLength: 128, maxSteps: 100}
"""


def test_what_tunes_libraries_is_set_and_what_names_a_network_is_told() -> None:
    wanted = {"TORCH_LOGS": "+dynamo", "NCCL_DEBUG": "INFO", "NCCL_SOCKET_IFNAME": "eth1", "GLOO_SOCKET_IFNAME": "eth1"}
    document = yaml.safe_load(JOB)
    document["spec"]["scheduling"] = {"env": wanted}
    environment, notes = environment_here(parse_manifest(yaml.safe_dump(document)))
    assert environment == {"TORCH_LOGS": "+dynamo", "NCCL_DEBUG": "INFO"}
    (note,) = notes
    assert note.endswith("GLOO_SOCKET_IFNAME, NCCL_SOCKET_IFNAME.")
    assert environment_here(parse_manifest(JOB)) == ({}, ())


def test_a_directory_of_the_users_is_no_package_of_the_trainer(tmp_path: Path) -> None:
    (tmp_path / "pydantic.py").write_text("raise RuntimeError('imported from the working directory')\n")
    told = subprocess.run([*TRAINER, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
