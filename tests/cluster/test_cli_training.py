"""Logs, watch and checkpoints of a job that really trains in pods, and why one fails whose data is not there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.addresses import S3_PORT
from tests.cluster.cluster import Cluster
from tests.cluster.operators import Operator
from tests.servers.s3_server import S3Server

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION")
MANIFEST: dict[str, Any] = {
    "apiVersion": "llmtrain.io/v1alpha1",
    "kind": "LLMTrainJob",
    "metadata": {"name": "demo"},
    "spec": {
        "model": {
            "config": {
                "model_type": "llama",
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "vocab_size": 320,
                "max_position_embeddings": 64,
            }
        },
        "tokenizer": {"train": {"algorithm": "bpe", "vocabSize": 300}},
        "training": {"globalBatchSize": 8, "microBatchSize": 1, "sequenceLength": 32, "maxSteps": 400, "precision": "fp32"},
        "output": {"export": [], "report": False},
        "resources": {"nodes": 2, "procsPerNode": 2},
    },
}


@pytest.fixture
def store(own: Cluster, namespace: str) -> S3Server:
    """The cluster's S3 server with a bucket of the test's own, some text in it, and its credentials as the secret `s3`."""
    server = S3Server("versitygw", f"http://{own.site.gateway}:{S3_PORT}")
    text = "".join(json.dumps({"text": f"The model reads token {number} and tells what comes next."}) + "\n" for number in range(300))
    server.client().create_bucket(Bucket=namespace)
    server.client().put_object(Bucket=namespace, Key="text.jsonl", Body=text.encode())
    environment = server.environment()
    secret = [f"--from-literal={name}={environment[name]}" for name in CREDENTIALS if name in environment]
    own.kubectl("create", "secret", "generic", "s3", "-n", namespace, *secret)
    return server


@pytest.fixture
def operator(own: Cluster, images: Any, namespace: str, tmp_path: Path) -> Iterator[Operator]:
    """An operator of the test's namespace that knows the trainer's image."""
    own.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds" / "llmtrain.io_llmtrainjobs.yaml"))
    own.kubectl("wait", "--for=condition=Established", "crd/llmtrainjobs.llmtrain.io", "--timeout=30s")
    started = Operator.start(own, tmp_path / "operator.log", namespace, watched=[namespace], more=["--trainer-image", images.trainer])
    yield started
    started.end()
    print(started.log.read_text())


@pytest.fixture
def command(own: Cluster, namespace: str, store: S3Server) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts commands in the test's namespace, with the credentials of the store; ends what still runs."""
    environment = {**os.environ, **store.environment(), "KUBECONFIG": str(own.kubeconfig), "PYTHONUNBUFFERED": "1"}
    made: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        code = "import sys; from llmtrain_operator.cli.app import invoke; sys.exit(invoke(sys.argv[1:]))"
        line = [sys.executable, "-c", code, *arguments, "-n", namespace]
        made.append(subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        return made[-1]

    yield start
    for process in made:
        if process.poll() is None:
            process.kill()
        process.communicate()


def until(holds: Callable[[], Any], what: str, seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.5)
    return found


def processes_of(uid: str) -> dict[int, int]:
    """Process id inside a pod's container -> process id here."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if uid in (process / "cgroup").read_text().replace("_", "-"):
                inside = next(line for line in (process / "status").read_text().splitlines() if line.startswith("NSpid:"))
                found[int(inside.split()[-1])] = int(process.name)
        except OSError:
            continue
    return found


def test_a_person_sees_a_job_train_reads_each_rank_and_finds_its_checkpoints(
    own: Cluster, namespace: str, operator: Operator, store: S3Server, command: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    spec = {
        **MANIFEST["spec"],
        "dataset": [{"source": f"s3://{namespace}/text.jsonl"}],
        "checkpoint": {"destination": f"s3://{namespace}/demo", "secretName": "s3", "every": {"steps": 100}},
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump({**MANIFEST, "spec": spec}))
    submitted = command("submit", "-f", str(tmp_path / "job.yaml"))
    assert submitted.wait(60) == 0, submitted.communicate()[0]
    watched, followed = command("watch", "demo", "--plain"), None

    def training() -> bool:
        done = json.loads(own.kubectl("get", "ltj", "demo", "-n", namespace, "-o", "json")).get("status") or {}
        assert done.get("phase") not in ("Complete", "Failed"), f"it ended too soon: {done}"
        return done.get("phase") == "Running"

    until(training, "training to begin")
    followed = command("logs", "demo", "--rank", "3", "-f")
    agent = json.loads(own.kubectl("get", "--raw", f"/api/v1/namespaces/{namespace}/pods/demo-a1-1:9400/proxy/status"))
    inside = next(beat["pid"] for beat in agent["heartbeats"] if beat["rank"] == 3)
    uid = own.kubectl("get", "pod", "-n", namespace, "demo-a1-1", "-o", "jsonpath={.metadata.uid}")
    os.kill(processes_of(uid)[inside], signal.SIGUSR1)  # it writes its stacks

    said = watched.communicate(timeout=150)[0]
    assert watched.returncode == 0, said
    lines = said.splitlines()
    assert any(line.startswith("Running: Trains on 2 pods") for line in lines), said
    steps = [line for line in lines if line.startswith("step ") and "/400 (" in line]
    assert steps and steps[-1].startswith("step 400/400 (100%)"), said
    assert any(line.startswith("Complete: Training is complete after 400 steps") for line in lines), said

    stacks = followed.communicate(timeout=30)[0]
    assert followed.returncode == 0 and "llmtrain_trainer/rank.py" in stacks and "[rank" not in stacks, stacks
    whole = command("logs", "demo").communicate(timeout=30)[0]
    assert "[node 0] step 400 of 400, loss " in whole and "[node 1] [prepare] " in whole and "[node 1] [rank 3] " in whole, whole
    stored = json.loads(command("checkpoints", "demo", "-o", "json").communicate(timeout=60)[0])
    assert [row["step"] for row in stored][:2] == [400, 300] and all(row["committed"] for row in stored)


def test_data_that_is_not_there_fails_the_job_with_the_sentence_of_the_preparation(
    own: Cluster, namespace: str, operator: Operator, store: S3Server, command: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    spec = {**MANIFEST["spec"], "dataset": [{"source": f"s3://{namespace}/absent.jsonl"}], "resources": {"nodes": 1}}
    spec["checkpoint"] = {"destination": f"s3://{namespace}/demo", "secretName": "s3"}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump({**MANIFEST, "spec": spec}))
    submitted = command("submit", "-f", str(tmp_path / "job.yaml"))
    assert submitted.wait(60) == 0, submitted.communicate()[0]
    watched = command("watch", "demo", "--plain")
    said = watched.communicate(timeout=120)[0]
    assert watched.returncode == 1 and "`llmtrain why demo` shows the evidence." in said, said
    why = command("why", "demo").communicate(timeout=60)[0]
    assert why.startswith("demo is Failed: ") and "absent.jsonl" in why.splitlines()[0], why
    assert "last failure" in why and "what to do" in why, why
