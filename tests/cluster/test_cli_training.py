"""Logs, watch and checkpoints of a job that really trains in pods, and why one fails whose data is not there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.cluster import Cluster
from tests.cluster.operators import Operator
from tests.cluster.trained_job import make_bucket, manifest, process_inside
from tests.cluster.waiting import until
from tests.servers.s3_server import S3Server

pytestmark = pytest.mark.cluster


@pytest.fixture
def store(own: Cluster, namespace: str) -> S3Server:
    """The cluster's S3 server with what make_bucket puts there."""
    return make_bucket(own, namespace)


@pytest.fixture
def operator(own: Cluster, images: Any, namespace: str, tmp_path: Path) -> Iterator[Operator]:
    """An operator of the test's namespace that knows the trainer's image."""
    own.define_jobs()
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


@pytest.fixture
def submit(namespace: str, command: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> Callable[..., None]:
    """Submits the small job `demo` with these fields."""

    def send(**fields: Any) -> None:
        made = manifest(namespace, "demo", 400, 100)
        made["spec"] |= fields
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(made))
        submitted = command("submit", "-f", str(tmp_path / "job.yaml"))
        assert submitted.wait(60) == 0, submitted.communicate()[0]

    return send


@pytest.mark.timeout(1200)  # four ranks share the machine with whatever else it does
def test_a_person_sees_a_job_train_reads_each_rank_and_finds_its_checkpoints(
    own: Cluster,
    namespace: str,
    operator: Operator,
    store: S3Server,
    submit: Callable[..., None],
    command: Callable[..., subprocess.Popen[str]],
) -> None:
    training = manifest(namespace, "demo", 400, 100)["spec"]["training"]
    submit(training=training | {"microBatchSize": 1}, resources={"nodes": 2, "procsPerNode": 2})
    watched = command("watch", "demo", "--plain")

    def trains() -> bool:
        done = json.loads(own.kubectl("get", "ltj", "demo", "-n", namespace, "-o", "json")).get("status") or {}
        assert done.get("phase") not in ("Complete", "Failed"), f"it ended too soon: {done}"
        return done.get("phase") == "Running"

    until(trains, "training to begin", every=0.5)
    followed = command("logs", "demo", "--rank", "3", "-f")
    agent = json.loads(own.kubectl("get", "--raw", f"/api/v1/namespaces/{namespace}/pods/demo-a1-1:9400/proxy/status"))
    inside = next(beat["pid"] for beat in agent["heartbeats"] if beat["rank"] == 3)
    uid = own.kubectl("get", "pod", "-n", namespace, "demo-a1-1", "-o", "jsonpath={.metadata.uid}")
    process_inside(uid, inside).send_signal(signal.SIGUSR1)  # it writes its stacks

    said = watched.communicate(timeout=900)[0]
    assert watched.returncode == 0, said
    lines = said.splitlines()
    assert any(line.startswith("Running: Training on 2 pods") for line in lines), said
    steps = [line for line in lines if line.startswith("step ") and "/400 (" in line]
    assert steps and steps[-1].startswith("step 400/400 (100%)"), said
    assert any(line.startswith("Complete: Training is complete after 400 steps") for line in lines), said

    stacks = followed.communicate(timeout=120)[0]
    assert followed.returncode == 0 and "llmtrain_trainer/rank/main.py" in stacks and "[rank" not in stacks, stacks
    whole = command("logs", "demo").communicate(timeout=120)[0]
    assert "[node 0] step 400 of 400, loss " in whole and "[node 1] [prepare] " in whole and "[node 1] [rank 3] " in whole, whole
    stored = json.loads(command("checkpoints", "demo", "-o", "json").communicate(timeout=120)[0])
    assert [row["step"] for row in stored][:2] == [400, 300] and all(row["committed"] for row in stored)


def test_data_that_is_not_there_fails_the_job_with_the_sentence_of_the_preparation(
    namespace: str, operator: Operator, store: S3Server, submit: Callable[..., None], command: Callable[..., subprocess.Popen[str]]
) -> None:
    submit(dataset=[{"source": f"s3://{namespace}/absent.jsonl"}], resources={"nodes": 1})
    watched = command("watch", "demo", "--plain")
    said = watched.communicate(timeout=120)[0]
    assert watched.returncode == 1 and f"`llmtrain why demo -n {namespace}` shows the evidence." in said, said
    why = command("why", "demo").communicate(timeout=120)[0]
    assert why.startswith("demo is Failed: ") and "absent.jsonl" in why.splitlines()[0], why
    assert "last failure" in why and "what to do" in why, why
