"""The whole: `helm install`, `kubectl apply` of an example -> pods on two nodes -> 2 x 2 x 2 -> checkpoints and a model in the bucket."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.cluster.addresses import NODES
from tests.cluster.cluster import Cluster
from tests.cluster.example import EXAMPLE, JOB, prepare
from tests.cluster.release import Release
from tests.cluster.trained_job import shows_training
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster

SPEC = JOB["spec"]
PROMPT = "Return the"
GENERATE = """
import sys, fsspec
from transformers import AutoModelForCausalLM, AutoTokenizer
fsspec.filesystem("s3").get(sys.argv[1], sys.argv[2], recursive=True)
tokenizer, model = AutoTokenizer.from_pretrained(sys.argv[2]), AutoModelForCausalLM.from_pretrained(sys.argv[2])
made = model.generate(**tokenizer(sys.argv[3], return_tensors="pt"), max_new_tokens=8, pad_token_id=0)
print(tokenizer.decode(made[0]))
"""


def run(environment: Mapping[str, str], program: str, *arguments: str | Path) -> str:
    """The output of a program of the environment that runs this test."""
    words = [Path(sys.executable).with_name(program), *arguments]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(1200)  # eight ranks share the machine with whatever else it does
def test_an_applied_example_trains_on_two_nodes_and_leaves_checkpoints_and_a_model_in_the_bucket(
    own: Cluster, installed: Release, namespace: str, told: None, tmp_path: Path
) -> None:
    environment, name = prepare(own, namespace).environment(), JOB["metadata"]["name"]
    own.kubectl("apply", "-n", namespace, "-f", str(EXAMPLE))

    until(lambda: shows_training(own, namespace, name), "the columns to show training", seconds=500, every=2)
    placed = own.kubectl("get", "pods", "-n", namespace, "-o", "jsonpath={.items[*].spec.nodeName}").split()
    assert sorted(placed) == sorted(NODES)
    own.kubectl("wait", "-n", namespace, "--for=condition=Complete", f"ltj/{name}", "--timeout=500s")

    status = json.loads(own.kubectl("get", "ltj", "-n", namespace, name, "-o", "json"))["status"]
    assert status["plan"]["layout"] == "pp2 dp2 tp2" and status["attempt"] == 1 and status["restarts"]["total"] == 0
    assert status["progress"]["step"] == status["checkpoint"]["step"] == SPEC["training"]["maxSteps"]
    stored = SPEC["checkpoint"]["destination"]
    found = json.loads(run(environment, "llmtrain", "checkpoints", "verify", "--destination", stored, "-o", "json"))
    assert [(one["step"], one["verified"]) for one in found] == [(40, True), (30, True)]
    said = run(environment, "python", "-c", GENERATE, f"{stored}/export/full", tmp_path / "model", PROMPT)
    assert PROMPT in said and len(said.strip()) > len(PROMPT), said
